"""What a plug-in's file says of itself without being run; loading is tested with every kind in tests/contracts."""

from pathlib import Path

import pytest

from shaping import shapers
from shaping.components import declared_conflicts, kinds
from shaping.errors import RecipeError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plug-ins beside the shipped shapers."""
    monkeypatch.setattr(shapers, "__path__", [*shapers.__path__, str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("name", ["CONFLICTS", "CONFLICTS: dict[str, str]"])
def test_conflicts_are_read_without_running_the_file(name: str, folder: Path) -> None:
    (folder / "heavy.py").write_text(f'import no_such_library\n\n{name} = {{\n    "less": "one " "reason",\n}}\n')
    assert "heavy" in kinds("shaping.shapers")
    assert declared_conflicts("shaping.shapers", "heavy") == {"less": "one reason"}


def test_a_file_without_conflicts_has_none(folder: Path) -> None:
    (folder / "mild.py").write_text('"""mild: CONFLICTS = {}."""\nNEEDS: frozenset[str]\nOTHER = {"less": "no"}\n')
    assert declared_conflicts("shaping.shapers", "mild") == {}


@pytest.mark.parametrize("value", ["frozenset({'less'})", "{'less'}", "{'less': 1}", "['less']", "dict(less='why')"])
def test_conflicts_that_are_no_kinds_with_reasons_are_refused(value: str, folder: Path) -> None:
    (folder / "odd.py").write_text(f"CONFLICTS = {value}\n")
    with pytest.raises(RecipeError, match=r"CONFLICTS must be a literal \{'kind': 'reason'\}, found .*less.*odd\.py"):
        declared_conflicts("shaping.shapers", "odd")
