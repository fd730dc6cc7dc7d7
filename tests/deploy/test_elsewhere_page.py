"""The page for other trainers shows what the code does."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"


def test_examples_of_the_page_run_as_shown() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False, raise_on_error=False)
    assert result.attempted > 10
    assert result.failed == 0
