"""What docs/explain.md and the committed example promise is what the code does."""

import re
from pathlib import Path

from services.explain.file import GROUP_FIELDS, LESS_FIELDS, RESPONSE_FIELDS, read_groups
from services.explain.group import explain_record
from services.explain.marks import MARKS
from services.explain.summary import summarise
from shaping.explain import TokenClass

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explain.md").read_text()
EXAMPLE = ROOT / "docs" / "examples" / "quickstart_groups.jsonl"


def fields_of(table: str) -> set[str]:
    """Names in the first column of the table that opens so."""
    rows = PAGE.split(f"| {table} |")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_page_lists_every_field_and_no_other() -> None:
    assert fields_of("field of a group") == set(GROUP_FIELDS)
    assert fields_of("field of a response of T tokens") == set(RESPONSE_FIELDS)
    assert all(f"`{name}`" in PAGE for name in LESS_FIELDS)


def test_the_page_shows_every_mark() -> None:
    for mark in MARKS.values():
        assert re.search(rf"\| {mark.name} \| `{re.escape(mark.sign)}`", PAGE)
        assert f"`{mark.ascii_sign}`" in PAGE


def test_the_smallest_line_of_the_page_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    path.write_text(PAGE.split("```json\n")[1].split("```")[0])
    (group,) = read_groups(path).groups
    assert group.responses[0].tokens == ("4",)


def test_the_example_is_a_run_that_can_be_explained_exactly() -> None:
    file = read_groups(EXAMPLE)
    groups = [explain_record(record, options={}, bound="lower") for record in file.groups]
    summary = summarise(file, groups)
    assert EXAMPLE.stat().st_size < 150_000
    assert summary.warnings == ()
    assert all(group.num_unlike_applied == 0 and group.doubt is None for group in groups)
    assert all(summary.class_tokens[each] > 0 for each in TokenClass)
