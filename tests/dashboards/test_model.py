"""Laws of how a dashboard becomes JSON: where panels stand, what they are called, what colour a series has."""

import re
from dataclasses import replace

from dashboards.frame import dashboard
from dashboards.model import Dashboard, Kind, Panel, Query, Section, Unit, good_above, good_below, good_between
from dashboards.palette import GREEN, ORANGE, VERMILION
from dashboards.reading import PanelView, panels

PANEL = Panel(
    title="One",
    description="Something. Good: it is.",
    queries=(Query("max(less_run_step)", "step"),),
    unit=Unit.NUMBER,
)


def titled(*titles: str, width: int = 8, height: int = 8) -> tuple[Panel, ...]:
    return tuple(replace(PANEL, title=title, width=width, height=height) for title in titles)


def made(*sections: Section) -> Dashboard:
    return dashboard("test", "Test", "For a test.", *sections)


def views(*sections: Section) -> dict[str, PanelView]:
    return {panel.title: panel for panel in panels(made(*sections).to_json())}


def at(view: PanelView) -> tuple[int, int]:
    return view.place.left, view.place.top


def test_panels_stand_beside_each_other_until_a_line_is_full() -> None:
    found = views(Section("First", titled("a", "b", "c", "d")), Section("Second", titled("e")))
    # A heading is one row high, a panel eight.
    assert {title: at(view) for title, view in found.items()} == {
        "First": (0, 0),
        **{"a": (0, 1), "b": (8, 1), "c": (16, 1), "d": (0, 9)},
        "Second": (0, 17),
        "e": (0, 18),
    }


def test_a_line_is_as_high_as_its_highest_panel() -> None:
    mixed = (*titled("high", width=12, height=8), *titled("low", width=12, height=4), *titled("next"))
    assert at(views(Section("First", mixed))["next"]) == (0, 9)


def test_a_panel_keeps_its_id_when_another_comes_before_it() -> None:
    before = views(Section("First", titled("b")))["b"]
    after = views(Section("First", titled("a", "b")))["b"]
    assert before.panel_id == after.panel_id


def test_the_same_title_has_another_id_on_another_dashboard() -> None:
    section = Section("First", titled("a"))
    one, other = (list(panels(replace(made(section), uid=uid).to_json()))[1] for uid in ("lessrl-one", "lessrl-other"))
    assert one.panel_id != other.panel_id


def test_a_colour_is_of_the_last_word_and_not_of_a_longer_one() -> None:
    panel = replace(PANEL, colours={"correct_only": GREEN, "incorrect_only": VERMILION})
    (view,) = [each for each in panels(made(Section("First", (panel,))).to_json()) if each.kind != "row"]

    def colours(name: str) -> list[str]:
        return [colour for pattern, colour in view.colours if re.search(pattern, name)]

    assert colours("run-1 correct_only") == [GREEN]
    assert colours("correct_only") == [GREEN]
    assert colours("run-1 incorrect_only") == [VERMILION]
    assert colours("correct_only run-1") == []


def test_limits_say_what_is_good() -> None:
    lowest = float("-inf")
    assert [(each.value, each.colour) for each in good_below(1, 2)] == [(lowest, GREEN), (1, ORANGE), (2, VERMILION)]
    assert [(each.value, each.colour) for each in good_above(2, 1)] == [(lowest, VERMILION), (1, ORANGE), (2, GREEN)]
    assert [(each.value, each.colour) for each in good_between(1, 2)] == [(lowest, ORANGE), (1, GREEN), (2, ORANGE)]


def test_the_lowest_limit_has_no_value_in_grafana() -> None:
    shown = made(Section("First", (replace(PANEL, limits=good_below(1)),))).to_json()["panels"][1]
    assert shown["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"color": GREEN, "value": None},
        {"color": ORANGE, "value": 1},
    ]


def test_a_heatmap_asks_for_buckets_and_a_table_for_one_point_in_time() -> None:
    found = views(
        Section(
            "First", (replace(PANEL, title="heat", kind=Kind.HEATMAP), replace(PANEL, title="rows", kind=Kind.TABLE))
        )
    )
    assert [(found[title].targets[0].form, found[title].targets[0].is_instant) for title in ("heat", "rows")] == [
        ("heatmap", False),
        ("table", True),
    ]
