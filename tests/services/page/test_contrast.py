"""Colours of the stylesheets: every text can be read in both themes, and no colour stands outside the palette."""

import re
from collections.abc import Iterator
from importlib import resources

import pytest
from wcag import Colour, contrast, of_hex, over

SHEETS = {"group.css": "services.explain", "page.css": "services.explain", "style.css": "services.page"}
SURFACES = ("page", "panel", "raised")
CLASSES = ("correct", "incorrect", "unique", "shared", "stray", "high")
TEXTS = ("ink", "soft", "accent", "correct", "incorrect", "unique", "shared", "stray", "high")
MARKS = ("inset 0 -3px", "wavy", "0 6px", "135deg", "0 2px, transparent 2px 5px", "top / 100%")
STRONGEST = 0.30
"""Largest share of a class's colour in the ground below its tokens."""


def sheet(name: str) -> str:
    folder = "page/" if SHEETS[name] == "services.explain" else ""
    return (resources.files(SHEETS[name]) / f"{folder}{name}").read_text("utf-8")


def palette(theme: int) -> dict[str, Colour]:
    """By name; theme 0 is light, 1 is dark."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", sheet("group.css"))
    return {name: of_hex(colours[theme]) for name, *colours in found}


def rules(text: str) -> Iterator[tuple[str, str]]:
    """Selector and body of each innermost rule."""
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    yield from ((each[0].strip(), each[1]) for each in re.findall(r"([^{}]+)\{([^{}]*)\}", plain))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_colour_can_be_read_on_every_surface(theme: int) -> None:
    colours = palette(theme)
    low = {
        (text, surface): round(contrast(colours[text], colours[surface]), 2)
        for text in TEXTS
        for surface in SURFACES
        if contrast(colours[text], colours[surface]) < 4.5
    }
    assert low == {}
    assert contrast(colours["warn"], colours["warn-page"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["on-accent"], colours["incorrect"]) >= 4.5
    assert contrast(colours["page"], colours["ink"]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_tokens_can_be_read_on_the_strongest_ground_of_their_class(theme: int) -> None:
    colours = palette(theme)
    for kind in ("correct", "incorrect", "unique", "high", "accent"):
        assert contrast(colours["ink"], over(colours[kind], STRONGEST, colours["panel"])) >= 4.5, kind
    # Shared tokens stand in soft on stripes; where a stripe is, there is at most 22 % of its colour.
    assert contrast(colours["soft"], over(colours["shared"], 0.22, colours["panel"])) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_marks_stand_out_from_the_panel(theme: int) -> None:
    colours = palette(theme)
    assert {kind for kind in CLASSES if contrast(colours[kind], colours["panel"]) < 3} == set()


def test_no_ground_of_a_class_is_stronger_than_what_was_checked() -> None:
    # calc(8% + 22% * var(--m)): 30 % where the multiplier is 1.
    for share in re.findall(r"color-mix\(in srgb, var\(--\w+\) (.*?), transparent\)", sheet("group.css")):
        numbers = [float(each) for each in re.findall(r"(\d+)%", share)]
        assert sum(numbers) <= 100 * STRONGEST, share


@pytest.mark.parametrize("name", SHEETS)
def test_a_colour_comes_from_the_palette(name: str) -> None:
    for selector, body in rules(sheet(name)):
        if selector != ":root":
            for declaration in re.findall(r"(?:^|;)\s*(?:color|background(?:-color)?|border(?:-\w+)*):([^;]*)", body):
                assert not re.search(r"#[0-9a-f]{3,8}\b", declaration), f"{selector}: {declaration}"
            for colour in re.findall(r"(?:^|[;{\s])color:\s*([^;]+)", body):
                assert re.fullmatch(r"var\(--[\w-]+\)|inherit|currentcolor", colour.strip()), f"{selector}: {colour}"


def test_every_class_of_tokens_has_a_mark_beside_its_colour() -> None:
    marks = {
        selector: body
        for selector, body in rules(sheet("group.css"))
        if re.fullmatch(r"\.c-(correct_only|incorrect_only|unique|shared|stray|high)", selector)
    }
    signs = {selector: tuple(word for word in MARKS if word in body) for selector, body in marks.items()}
    assert len(marks) == 6
    assert all(signs.values()) and len(set(signs.values())) == 6, signs


def test_the_formula_is_that_of_wcag() -> None:
    # Black on white is 21, and #767676 is the lightest grey that passes on white: 4.54.
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast(of_hex("#767676"), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)
