"""docs/metrics.md says what the catalogue says: every metric, under both of its names, and each once."""

import re
from pathlib import Path

from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES
from services.metrics.reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `less_") or re.match(r"\| `[a-z]+_", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def test_committed_page_is_what_the_catalogue_makes() -> None:
    advice = "the catalogue has changed: python -m services.metrics.reference > docs/metrics.md"
    assert PAGE.read_text() == reference(), advice


def test_every_metric_of_a_step_is_listed_with_its_family() -> None:
    found = {row[0].split("<br>")[0].strip("`"): row[1].strip("`") for row in rows(reference()) if len(row) == 6}
    assert found == {metric.name: metric.family for metric in catalogue().metrics}


def test_every_other_family_is_listed_once() -> None:
    found = [row[0].strip("`") for row in rows(reference()) if len(row) == 5]
    assert sorted(found) == sorted(family.name for family in FAMILIES)


def test_every_row_says_what_it_means() -> None:
    assert [row[0] for row in rows(reference()) if not row[4]] == []


def test_a_closed_label_shows_all_its_values_and_an_open_one_says_so() -> None:
    text = {row[0]: row for row in rows(reference())}
    (outcome,) = (row for name, row in text.items() if "groups_{outcome}_count" in name)
    assert "`outcome`: all_correct, mixed, all_incorrect" in outcome[0]
    (reward,) = (row for name, row in text.items() if "`reward_{reward}_value`" in name)
    assert "`reward`: open" in reward[0]
