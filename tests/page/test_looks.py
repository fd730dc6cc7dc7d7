"""The page as it is drawn: whoever sees little, sees no colours or uses no mouse can use it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser, visit
from explain_builders import worked_line
from page_service import PageService, serve_page
from playwright.sync_api import Browser, Page, expect
from wcag import Colour, contrast, over

pytestmark = pytest.mark.stack

RUN = "/#/runs/run-1"
GROUP = f"{RUN}/groups/g00000000?r=0&t=0"
PLACES = ("/#/", RUN, f"{RUN}/groups", GROUP, f"{RUN}/workers", f"{RUN}/config")

# Every text on the screen with its colour and the colours below it, the nearest first; a ground that is drawn as an
# image is judged by the stylesheet's own test.
_TEXTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest(":disabled, noscript, .skip, caption")) continue;
    const grounds = [];
    for (let at = node; at; at = at.parentElement) grounds.push(rgba(getComputedStyle(at).backgroundColor));
    const key = JSON.stringify([rgba(getComputedStyle(node).color), grounds.filter((each) => each[3] > 0)]);
    if (!found.has(key)) found.set(key, `${node.className} ${walker.currentNode.data.trim().slice(0, 30)}`);
  }
  return [...found].map(([key, text]) => [text, ...JSON.parse(key)]);
}"""

# Names of controls, as far as these pages give them: text, label, aria-label, title of a picture.
_NAMELESS = """() => [...document.querySelectorAll(
    "a, button, input, select, textarea, [tabindex='0'], dialog, nav, [role=img]")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.getAttribute("aria-label")?.trim() || node.labels?.[0]?.textContent.trim()
    || document.getElementById(node.getAttribute("aria-labelledby"))?.textContent.trim()
    || (!["INPUT", "SELECT", "NAV"].includes(node.tagName) && node.textContent.trim())))
  .map((node) => node.outerHTML.slice(0, 120))"""


_MOVING = """() => [...document.querySelectorAll("*")].map((node) => [node.className, getComputedStyle(node)])
  .filter(([, style]) => style.transitionDuration !== "0s" || style.animationName !== "none").map(([name]) => name)"""
_IS_HELD = "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
_FOCUSED = "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageService]:
    line = {**worked_line(), "group_id": "g00000000", "step": 1, "policy_version": 0}
    with serve_page(Path(tmp_path_factory.mktemp("run")), [line]) as served:
        yield served


def settle(page: Page) -> None:
    expect(page.locator("main").get_by_text("Loading")).to_have_count(0)
    expect(page.locator("main :is(table, .tiles dd, .rollout, .nothing)").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_on_the_screen_has_contrast_enough(browser: Browser, service: PageService, scheme: Any) -> None:
    for place in PLACES:
        with visit(browser, service.address + place, color_scheme=scheme) as seen:
            settle(seen.page)
            texts = seen.page.evaluate(_TEXTS)
            assert len(texts) >= 3, place
            low = {text: ratio for text, colour, grounds in texts if (ratio := _ratio(colour, grounds)) < 4.5}
            assert low == {}, place


def _ratio(colour: list[float], grounds: list[list[float]]) -> float:
    ground: Colour = (255.0, 255.0, 255.0)
    for red, green, blue, alpha in reversed(grounds):
        ground = over((red, green, blue), alpha / 255, ground)
    return contrast(over(colour[:3], colour[3] / 255, ground), ground)


def test_the_theme_follows_the_system_until_it_is_switched_and_stays(browser: Browser, service: PageService) -> None:
    def ground(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with visit(browser, service.address + RUN, color_scheme="dark") as seen:
        page = seen.page
        dark = ground(page)
        page.get_by_role("button", name=re.compile("^Theme: auto")).click()
        page.get_by_role("button", name=re.compile("^Theme: light")).wait_for()
        assert ground(page) != dark
        page.reload()
        page.get_by_role("button", name=re.compile("^Theme: light")).click()
        assert ground(page) == dark


def test_every_control_has_a_name_and_every_view_its_landmarks(browser: Browser, service: PageService) -> None:
    for place in PLACES:
        with visit(browser, service.address + place) as seen:
            page = seen.page
            settle(page)
            assert page.evaluate(_NAMELESS) == [], place
            assert page.locator("main").count() == page.locator("header").count() == 1
            assert page.locator("h1, h2").count() >= 1
            assert page.evaluate("document.documentElement.lang") == "en"
            assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
            assert len(ids) == len(set(ids))
            assert page.locator("th:not([scope])").count() == 0


def test_the_tab_key_goes_through_the_page_in_order_and_shows_where_it_is(
    browser: Browser, service: PageService
) -> None:
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        settle(page)
        expect(page.get_by_role("button", name="Pause …")).to_be_visible()
        page.evaluate("document.activeElement.blur()")
        names = []
        for _ in range(12):
            page.keyboard.press("Tab")
            names.append(page.evaluate(_FOCUSED))
            outline = page.evaluate("getComputedStyle(document.activeElement).outline")
            assert outline.endswith("solid 2px"), names[-1]
        assert names[0] == "Skip to the content"
        assert names[1:8] == ["lessrl", "Runs", "tiny", "Run", "Groups", "Workers", "Config"]
        assert names[10:12] == ["Pause …", "Cancel …"]


def test_a_dialog_holds_the_keyboard_and_gives_it_back(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        pause = page.get_by_role("button", name="Pause …")
        pause.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        for _ in range(12):
            page.keyboard.press("Tab")
            assert page.evaluate(_IS_HELD)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_curves_can_be_read_as_a_table(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        page.get_by_role("button", name="As a table").click()
        table = page.get_by_role("region", name="The last 20 steps")
        # Three steps, and the evaluation before the first.
        expect(table.locator("tbody tr")).to_have_count(4)
        expect(table.locator("tbody tr").first.locator("td").nth(1)).to_have_text("0.375")
        expect(page.locator(".charts")).to_be_hidden()


def test_nothing_moves_for_whoever_asked_for_less_motion(browser: Browser, service: PageService) -> None:
    for place in (RUN, GROUP):
        with visit(browser, service.address + place, reduced_motion="reduce") as seen:
            settle(seen.page)
            assert seen.page.evaluate(_MOVING) == [], place
