"""What the README and the docs say is so: their links lead somewhere, and their commands, files and keys exist."""

import doctest
import functools
from pathlib import Path

import pytest

from tests.docs.judge import block_faults, link_faults, page_commands, span_faults
from tests.docs.pages import ROOT, Page, all_pages

PAGES = {str(page.path.relative_to(ROOT)): page for page in all_pages()}
HISTORY = {"CHANGELOG.md", "docs/log.md"}
"""They say what was; files and options may be gone."""

each_page = pytest.mark.parametrize("name", sorted(PAGES))


@functools.cache
def anchors_of(path: Path) -> set[str]:
    return Page(path=path, text=path.read_text()).anchors()


@each_page
def test_every_link_leads_somewhere(name: str) -> None:
    assert [str(fault) for fault in link_faults(PAGES[name], anchors_of)] == []


@each_page
def test_every_block_is_what_it_says(name: str) -> None:
    assert [str(fault) for block in PAGES[name].blocks() for fault in block_faults(block)] == []


@pytest.mark.parametrize("name", sorted(PAGES.keys() - HISTORY))
def test_every_command_and_file_in_the_text_exists(name: str) -> None:
    page = PAGES[name]
    assert [str(fault) for span in page.spans() for fault in span_faults(span, page)] == []


@pytest.mark.parametrize("name", sorted(name for name, page in PAGES.items() if ">>>" in page.text))
def test_every_example_runs_as_shown(name: str) -> None:
    result = doctest.testfile(str(ROOT / name), module_relative=False)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_the_commands_of_the_pages_are_found() -> None:
    """The reader of shells has not gone blind: what a newcomer is told first is among what it finds."""
    words = {" ".join(command.words) for page in PAGES.values() for _, command in page_commands(page)}
    assert {"make quickstart", "lessrl train RECIPE --run-dir DIR"} <= words
    assert len(words) > 40


def test_every_page_is_in_the_index() -> None:
    index = PAGES["docs/README.md"]
    linked = {(index.path.parent / link.text.partition("#")[0]).resolve() for link in index.links()}
    assert {name for name, page in PAGES.items() if name.startswith("docs/") and page.path not in linked} == {
        "docs/README.md"
    }
