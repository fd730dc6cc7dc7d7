"""The page in a real browser, over the real application: what an operator does, and what must not happen."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser, visit
from explain_builders import worked_line
from page_service import PageService, serve_page
from playwright.sync_api import Browser, Page, expect
from run_view_builders import make_group_line

from services.api.access import Access
from services.api.auth import Role, Token

pytestmark = pytest.mark.stack

HOSTILE = (
    '<script>alert("ran")</script>',
    '<img src="http://198.51.100.7/x" onerror="alert(1)">',
    "abc\u202edef\u202c",
    "\x1b[31mred\x1b[0m",
    "\u2028end\u0000",
    "</pre><style>*{display:none}</style>",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def stored(line: dict[str, Any], ordinal: int) -> dict[str, Any]:
    return {**line, "group_id": f"g{ordinal:08d}", "step": 1, "policy_version": 0}


def worked_groups() -> list[dict[str, Any]]:
    return [stored(worked_line(), 0), make_group_line(1, num_correct=4)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[PageService]:
    with serve_page(tmp_path / "run", worked_groups()) as served:
        yield served


RUN = "/#/runs/run-1"
GROUP = f"{RUN}/groups/g00000000"


def test_one_run_alone_is_opened_at_once_with_its_state_curves_and_events(
    browser: Browser, service: PageService
) -> None:
    with visit(browser, service.address) as seen:
        page = seen.page
        expect(page).to_have_url(re.compile("#/runs/run-1$"))
        expect(page.locator(".badge")).to_have_text("●running")
        expect(page.get_by_role("heading", level=1)).to_have_text("tiny")
        # The third step's reward is 3/8; a step has 1.5 s of training.
        expect(page.locator(".tiles")).to_contain_text("0.375")
        expect(page.get_by_role("group", name=re.compile("^Step time; newest: .*training 1.5 s"))).to_be_visible()
        expect(page.get_by_role("group", name=re.compile("^Held-out accuracy; newest: accuracy 25.0%"))).to_be_visible()
        expect(page.locator(".chart canvas").first).to_be_visible()
        expect(page.locator(".events")).to_contain_text("Training")
        expect(page).to_have_title("running 3/10 · tiny")
        seen.check_is_clean(service.address)


def test_a_step_that_is_made_meanwhile_appears_by_itself(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        expect(seen.page.locator(".link-state")).to_have_class("link-state is-live")
        service.do(service.run.make_step())
        expect(seen.page.get_by_text("step 4 of 10")).to_be_visible()
        expect(seen.page.get_by_role("group", name=re.compile("^Reward; newest: mean reward 0.500"))).to_be_visible()
        expect(seen.page.locator(".events")).to_contain_text("step completed")
        seen.check_is_clean(service.address)


def test_what_has_the_keyboard_keeps_it_while_numbers_change(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        for place in (seen.page.get_by_role("button", name="Pause …"), seen.page.get_by_role("link", name="Workers")):
            place.focus()
            service.do(service.run.make_step())
            expect(seen.page.get_by_text(f"step {service.run.step} of 10", exact=True)).to_be_visible()
            expect(place).to_be_focused()
        # The list of runs is drawn anew with its numbers.
        seen.page.get_by_role("link", name="Runs").click()
        run = seen.page.get_by_role("cell").get_by_role("link", name="tiny")
        run.focus()
        service.do(service.run.make_step())
        expect(seen.page.get_by_text(f"{service.run.step} of 10", exact=True)).to_be_visible(timeout=10_000)
        expect(run).to_be_focused()


def test_a_number_that_does_not_exist_is_a_dash_and_never_zero(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        # The played run reports neither staleness nor a KL.
        expect(
            seen.page.get_by_role("group", name="Staleness, versions; newest: of trained groups \u2013")
        ).to_be_visible()
        tile = seen.page.locator(".tiles > div", has_text="Staleness")
        expect(tile.locator("dd")).to_contain_text("\u2013")


def test_a_run_is_paused_after_a_question_and_resumed(browser: Browser, service: PageService) -> None:
    service.let_pause(False)
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        page.get_by_role("button", name="Pause …").click()
        dialog = page.get_by_role("dialog", name="Pause tiny?")
        expect(dialog.get_by_role("radio", name="drain")).to_be_checked()
        dialog.get_by_role("radio", name="freeze").check()
        expect(dialog.get_by_label("Commit a checkpoint")).not_to_be_checked()
        dialog.get_by_role("radio", name="abort").check()
        expect(dialog.get_by_label("Commit a checkpoint")).to_be_checked()
        dialog.get_by_label("Reason").fill("maintenance <b>")
        dialog.get_by_role("button", name="Pause the run").click()
        expect(dialog).to_have_count(0)
        expect(page.locator(".badge")).to_have_text("◐pausing")
        expect(page.locator(".pause .here")).to_contain_text("finishing step")
        expect(page.locator(".pause .facts")).to_contain_text("mode abort")
        expect(page.locator(".pause .facts")).to_contain_text("3 groups under way")
        expect(page.locator(".pause .facts")).to_contain_text("“maintenance <b>”")
        service.let_pause(True)
        expect(page.locator(".badge")).to_have_text("‖paused")
        expect(page.locator(".pause .facts")).to_contain_text("checkpoint step-000003")
        expect(page.locator(".pause .facts")).to_contain_text("exactness learner exact")
        page.get_by_role("button", name="Resume …").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume the run").click()
        expect(page.locator(".badge")).to_have_text("●running")
        expect(page.locator(".pause")).to_have_count(0)
        seen.check_is_clean(service.address)


def test_a_question_that_is_not_answered_changes_nothing(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        for name in ("Pause …", "Cancel …"):
            page.get_by_role("button", name=name).click()
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".badge")).to_have_text("●running")
        assert not [each for each in seen.requests if each.endswith(("/pause", "/cancel"))]


def test_a_run_is_cancelled_only_by_its_name(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + RUN) as seen:
        page = seen.page
        page.get_by_role("button", name="Cancel …").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Cancel the run").click()
        expect(dialog.get_by_role("alert")).to_contain_text("type tiny to confirm, found nothing")
        dialog.get_by_label("To confirm").fill("tiny")
        dialog.get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".badge")).to_have_text("■cancelled")
        expect(page.get_by_role("button", name="Pause …")).to_have_count(0)
        seen.check_is_clean(service.address)


def test_a_group_is_found_by_outcome_and_opened(browser: Browser, service: PageService) -> None:
    with visit(browser, f"{service.address}{RUN}/groups") as seen:
        page = seen.page
        expect(page.locator("tbody tr")).to_have_count(2)
        page.get_by_label("outcome").select_option("all_correct")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody tr")).to_contain_text("4 of 4")
        page.get_by_label("outcome").select_option("mixed")
        expect(page.locator("tbody tr")).to_contain_text("3 of 5")
        page.locator("tbody a").click()
        expect(page).to_have_url(re.compile("/groups/g00000000$"))
        expect(page.locator(".rollout")).to_have_count(5)
        expect(page.get_by_text("1 of 2 of the step").or_(page.get_by_text("2 of 2 of the step"))).to_be_visible()
        seen.check_is_clean(service.address)


def test_every_class_is_coloured_and_marked_and_a_layer_takes_both_away(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + GROUP) as seen:
        page = seen.page
        # Classes of the worked group, see explain_builders.
        for kind, text in (("correct_only", "abcd"), ("incorrect_only", "pqrs"), ("shared", "efgh"), ("high", "H")):
            run = page.locator(f".text .c-{kind}").first
            expect(run).to_have_text(text)
            assert looks(run) != looks(page.locator(".text .c-stray").first)
        shaded = page.locator(".text .c-correct_only").first
        strong = looks(shaded)
        layer = page.get_by_role("button", name=re.compile("^correct-only"))
        layer.click()
        expect(layer).to_have_attribute("aria-pressed", "false")
        assert looks(shaded)["backgroundColor"] == "rgba(0, 0, 0, 0)" and looks(shaded)["boxShadow"] == "none"
        page.keyboard.press("2")
        expect(layer).to_have_attribute("aria-pressed", "true")
        assert looks(shaded) == strong
        page.get_by_role("button", name="strength").click()
        # 2/3 of full strength, against the half that stands for all.
        assert looks(shaded)["backgroundColor"] != strong["backgroundColor"]
        page.get_by_label("layout").select_option("lanes")
        left, right = (page.locator(f".rollout.is-{kind}").first.bounding_box() for kind in ("correct", "incorrect"))
        assert left is not None and right is not None and left["x"] + left["width"] <= right["x"]
        seen.check_is_clean(service.address)


def looks(locator: Any) -> dict[str, str]:
    found: dict[str, str] = locator.evaluate(
        "(node) => { const style = getComputedStyle(node); return Object.fromEntries(['backgroundColor', "
        "'backgroundImage', 'boxShadow', 'textDecorationLine', 'fontWeight'].map((name) => [name, style[name]])); }"
    )
    return found


def test_keys_move_between_responses_tokens_and_places(browser: Browser, service: PageService) -> None:
    with visit(browser, service.address + GROUP) as seen:
        page = seen.page
        expect(page.locator(".rollout")).to_have_count(5)
        inspector, now = page.get_by_label("The token in hand"), page.locator(".text .now")
        page.keyboard.press("j")
        expect(inspector).to_contain_text("Rollout 0, correct, token 0")
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        # Token 5 of abcdHefghT is e: shared, so 0. GRPO with mean 3/5 and the sample's deviation gives +0.7303.
        expect(now).to_have_text("e")
        expect(inspector).to_contain_text("held by 1 of 3 correct and 1 of 2 incorrect rollouts")
        expect(page).to_have_url(re.compile(r"\?r=0&t=5$"))
        page.keyboard.press("n")
        expect(inspector).to_contain_text("Rollout 3, incorrect, token 0")
        page.keyboard.press("p")
        expect(inspector).to_contain_text("Rollout 0, correct, token 5")
        page.keyboard.press("j")
        expect(inspector).to_contain_text("Rollout 1, correct, token 5")
        page.keyboard.press("k")
        expect(inspector).to_contain_text("Rollout 0, correct, token 5")
        page.keyboard.press("End")
        expect(now).to_have_text("T")
        page.keyboard.press("Escape")
        expect(now).to_have_count(0)
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        seen.check_is_clean(service.address)


def test_a_link_to_a_token_opens_it_and_its_strings_are_lit(browser: Browser, service: PageService) -> None:
    with visit(browser, f"{service.address}{GROUP}?r=0&t=0") as seen:
        page = seen.page
        expect(page.locator(".text .now")).to_have_text("a")
        # abcd stands in rollouts 0 and 1.
        expect(page.locator(".text .same")).to_have_count(8)
        page.get_by_role("button", name="@0").nth(1).click()
        expect(page.get_by_label("The token in hand")).to_contain_text("Rollout 1, correct, token 0")


def test_hostile_model_output_is_shown_and_does_nothing(browser: Browser, tmp_path: Path) -> None:
    line = make_group_line(0, tokens=HOSTILE, prompt=" ".join(HOSTILE), prompt_id=HOSTILE[1])
    line["responses"][0]["hint"] = HOSTILE[0]
    with serve_page(tmp_path / "run", [line]) as served, visit(browser, served.address + GROUP) as seen:
        page = seen.page
        expect(page.locator(".rollout")).to_have_count(4)
        shown = page.locator("main").inner_text()
        for text in (
            '<script>alert("ran")</script>',
            "onerror=",
            "abc\\u202edef\\u202c",
            "\\x1b[31mred",
            "</pre><style>",
        ):
            assert text in shown
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\u2028]", shown)
        assert page.locator("main script, main img, main style").count() == 0
        page.goto(f"{served.address}{RUN}/groups")
        expect(page.locator("tbody")).to_contain_text('<img src="http://198.51.100.7/x"')
        seen.check_is_clean(served.address)


def test_a_live_key_is_changed_applied_and_kept_in_the_history(browser: Browser, service: PageService) -> None:
    with visit(browser, f"{service.address}{RUN}/config") as seen:
        page = seen.page
        rate = page.get_by_label(re.compile("^learner.optimizer.learning_rate, new value"))
        rate.fill("0.5e-6")
        page.get_by_role("button", name="Apply 1 change").click()
        expect(page.get_by_text("Generation 2 taken")).to_be_visible()
        row = page.locator("tbody tr", has_text="learner.optimizer.learning_rate = 5e-7")
        # The played run takes it before its fourth step.
        expect(row.locator("td").last).to_have_text("4")
        expect(rate).to_have_value("5e-7")
        service.change("run.max_staleness", 1)
        expect(page.locator("tbody tr", has_text="run.max_staleness = 1")).to_contain_text("bob")
        rate.fill("fast")
        page.get_by_role("button", name="Apply 1 change").click()
        expect(page.get_by_role("alert").filter(has_text="422")).to_be_visible()
        assert [each for each in seen.complaints if "422" not in each] == []


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused_and_told(
    browser: Browser, service: PageService
) -> None:
    with visit(browser, f"{service.address}{RUN}/config") as seen:
        page = seen.page
        steps = page.get_by_label(re.compile("^run.steps, new value"))
        steps.fill("9")
        # Another caller is quicker; this tab's next change still goes out from the generation that it has seen.
        page.route("**/config", lambda route: route.abort() if route.request.method == "GET" else route.continue_())
        service.change("run.max_staleness", 1)
        page.get_by_role("button", name="Apply 1 change").click()
        expect(page.get_by_role("alert").filter(has_text="412")).to_be_visible()
        page.unroute_all()
        page.reload()
        expect(page.locator("tbody tr", has_text="run.max_staleness = 1")).to_be_visible()


def test_a_control_plane_that_is_away_is_told_and_found_again(browser: Browser, tmp_path: Path) -> None:
    with serve_page(tmp_path / "run", worked_groups()) as first:
        port = int(first.address.rpartition(":")[2])
        with visit(browser, first.address + RUN) as seen:
            page = seen.page
            expect(page.locator(".link-state")).to_have_class("link-state is-live")
            first.stop()
            expect(page.get_by_role("alert")).to_contain_text("The control plane is away; reconnecting in")
            # What was seen stays on the screen.
            expect(page.locator(".tiles")).to_contain_text("0.375")
            with serve_page(tmp_path / "again", worked_groups(), port=port):
                expect(page.locator(".link-state")).to_have_class("link-state is-live", timeout=30_000)
                expect(page.locator("#banner")).to_be_hidden()


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(browser: Browser, tmp_path: Path) -> None:
    secret = "a-token-for-the-page-0123456789"
    access = Access(tokens=(Token.of("ann", Role.OPERATE, secret),))
    with (
        serve_page(tmp_path / "run", worked_groups(), access=access) as served,
        visit(browser, served.address) as seen,
    ):
        page = seen.page
        dialog = page.get_by_role("dialog", name=re.compile("asks for a token"))
        dialog.get_by_label("Token").fill("wrong")
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog.get_by_role("alert")).to_contain_text("401")
        dialog.get_by_label("Token").fill(secret)
        dialog.get_by_role("button", name="Use it").click()
        expect(page.locator(".badge")).to_have_text("●running")
        expect(page.locator(".link-state")).to_have_class("link-state is-live")
        assert page.evaluate("Object.values(sessionStorage)") == [secret]
        assert secret not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        assert not [each for each in seen.requests if secret in each]
        assert secret not in page.content()


def test_an_address_that_names_nothing_says_so(browser: Browser, service: PageService) -> None:
    for place, said in (
        ("/#/runs/run-2", "No such run here"),
        (f"{RUN}/nothing", "No such view"),
        (f"{RUN}/groups/g99999999", "This group was not written down"),
    ):
        with visit(browser, service.address + place) as seen:
            expect(seen.page.locator("main")).to_contain_text(said)


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_no_screen_scrolls_sideways(browser: Browser, service: PageService, width: int) -> None:
    viewport = {"width": width, "height": 900}
    for place in ("/#/", RUN, f"{RUN}/groups", GROUP, f"{RUN}/workers", f"{RUN}/config"):
        with visit(browser, service.address + place, viewport=viewport) as seen:
            settle(seen.page)
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, place


def settle(page: Page) -> None:
    """What a view draws from its first answers is there."""
    expect(page.locator("main").get_by_text("Loading")).to_have_count(0)
    expect(page.locator("main :is(table, .tiles dd, .rollout, .problem, .nothing)").first).to_be_visible()


def test_a_long_group_costs_nodes_for_what_is_near_the_screen_alone(browser: Browser, tmp_path: Path) -> None:
    words = [f"w{index % 97} " for index in range(4000)]
    line = make_group_line(0, size=16, num_correct=8, tokens=words)
    with serve_page(tmp_path / "run", [line]) as served, visit(browser, served.address + GROUP) as seen:
        page = seen.page
        expect(page.locator(".rollout")).to_have_count(16)
        # 64,000 tokens. A chunk has 240 at most, and 60 of them are kept, or more where more are near the screen.
        inspector = page.get_by_label("The token in hand")
        for row in range(16):
            for key, at in (("j", 0), ("End", 3999), ("Home", 0)):
                page.keyboard.press(key)
                expect(inspector).to_contain_text(re.compile(f"^Rollout {row}, \\w+, token {at}\\b"))
        assert page.locator(".text .t").count() < 18_000
        # All of it is text that can be searched all the same.
        assert page.evaluate("document.querySelectorAll('.text')[15].textContent.split(' ').length") == 4001
        page.keyboard.press("End")
        now = page.locator(".text .now")
        expect(now).to_have_text("w22 ")
        page.keyboard.press("Home")
        first = now.bounding_box()
        page.keyboard.press("ArrowDown")
        below = now.bounding_box()
        # A line is 28 px high; both begin theirs.
        assert first is not None and below is not None
        assert (below["x"], below["y"] - first["y"]) == (first["x"], 28)
        seen.check_is_clean(served.address)
