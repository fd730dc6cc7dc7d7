"""What a person must see, on a terminal and without one. Captured text, and a clock that the test moves."""

import io
from pathlib import Path

import pytest
from report_builders import (
    Clock,
    make_description,
    make_evaluation,
    make_event,
    make_history,
    make_step,
    make_worker,
)
from rich.console import Console

from services.history import summarise
from services.progress import Progress
from services.progress_facts import ProgressFacts, duration
from services.reports import Failure, RunReport, RunState


class Screen:
    """A progress view on a console that keeps what it prints."""

    def __init__(self, *, is_terminal: bool, encoding: str = "utf-8", width: int = 100) -> None:
        self.clock = Clock(0.0)
        self._bytes = io.BytesIO()
        file = io.TextIOWrapper(self._bytes, encoding=encoding, write_through=True)
        self.console = Console(
            file=file, force_terminal=is_terminal, width=width, color_system=None, legacy_windows=False
        )
        self.view = Progress(
            make_description(total_steps=20),
            run_dir=Path("runs/tiny"),
            api_address="http://127.0.0.1:8265",
            console=self.console,
            clock=self.clock,
        )
        self._encoding = encoding

    def show(self, *reports: RunReport) -> None:
        for report in reports:
            self.view.show(report)

    def text(self) -> str:
        return self._bytes.getvalue().decode(self._encoding)

    def frame(self) -> str:
        """The view as it would be drawn now."""
        with self.console.capture() as capture:
            self.console.print(self.view)
        return capture.get()


def test_without_a_terminal_each_report_is_one_plain_line() -> None:
    screen = Screen(is_terminal=False, width=40)
    history = make_history(20)
    screen.show(make_event("started", "Training"), history.evaluations[0], *history.steps[:2])
    lines = screen.text().splitlines()
    assert len(lines) == 4
    assert lines[0] == "0 s  running  Training"
    assert lines[1] == "held-out accuracy 40.0% after step 0 (8 problems)"
    # 36 of 38 s left: 18 steps at 2 s.
    for words in (
        "step 2/20",
        "held-out 40.0%",
        "train 53.0%",
        "reward 0.530",
        "entropy 0.388 nats",
        "segments shared 60% correct-only 20% incorrect-only 15% unique 5%",
        "50 tokens/s",
        "2.00 s/step",
        "36 s left",
    ):
        assert words in lines[3]
    assert "\x1b" not in screen.text()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_first_lines_tell_where_to_look(is_terminal: bool) -> None:
    screen = Screen(is_terminal=is_terminal, width=40)
    with screen.view:
        pass
    first, second, *places = screen.text().splitlines()[:5]
    assert first == "tiny: 20 steps on models/tiny"
    assert second == "run directory runs/tiny, control plane http://127.0.0.1:8265"
    assert "  page        http://127.0.0.1:8265/ in a browser" in places[0]
    assert places[1] == "  metrics     http://127.0.0.1:8265/metrics for Prometheus"
    assert "lessrl dashboards export" in places[2]


def test_a_number_that_was_not_measured_is_left_out_of_the_line() -> None:
    screen = Screen(is_terminal=False)
    screen.show(make_event("started"), make_step(1, total_steps=20))
    line = screen.text().splitlines()[-1]
    for word in ("reward", "held-out", "entropy", "segments", "dropped"):
        assert word not in line


def test_dropped_groups_are_told_with_their_reason() -> None:
    step = make_step(1, total_steps=20, groups={"trained": 3, "dropped_no_signal": 2, "dropped_empty": 0})
    for is_terminal in (False, True):
        screen = Screen(is_terminal=is_terminal)
        screen.show(step)
        shown = screen.frame() if is_terminal else screen.text()
        assert ("2 dropped (no signal)" in shown) or ("dropped no_signal 2" in shown)
        assert "empty" not in shown


def test_undecided_held_out_problems_are_told() -> None:
    screen = Screen(is_terminal=False)
    screen.show(make_evaluation(4, 0.5, num_decided=6))
    assert screen.text().strip() == "held-out accuracy 50.0% after step 4 (8 problems, 2 without a verdict)"


def test_start_up_shows_what_is_being_waited_for_and_for_how_long() -> None:
    screen = Screen(is_terminal=True)
    loading = make_worker("rollout-0", state="starting", description="loading vLLM")
    ready = make_worker("shaping-0", role="shaping", description="pipeline: less")
    screen.show(make_event("starting", "Starting workers", RunState.STARTING, workers=(loading, ready)))
    screen.clock.now = 42.0
    frame = screen.frame()
    rollout_line = next(line for line in frame.splitlines() if "rollout-0" in line)
    shaping_line = next(line for line in frame.splitlines() if "shaping-0" in line)
    assert "loading vLLM ..." in rollout_line
    assert "42 s" in rollout_line
    assert "ready" in shaping_line
    assert "12 s" in shaping_line
    assert "starting for 42 s" in frame
    assert "Starting workers (42 s ago)" in frame


def test_a_running_view_shows_every_number_a_watcher_needs() -> None:
    screen = Screen(is_terminal=True)
    history = make_history(20)
    screen.show(make_event("started", "Training"), history.evaluations[0], *history.steps[:10])
    frame = screen.frame()
    for words in (
        "tiny",
        "running",
        "step 10/20",
        "20 s left",
        "held-out accuracy",
        "40.0%",
        "training accuracy",
        "reward",
        "entropy (nats)",
        "3 mixed, 1 all correct, 0 all incorrect",
        "tokens/s, 2.00 s a step",
        "last event  Training",
        "http://127.0.0.1:8265",
    ):
        assert words in frame, words


def test_the_segment_bar_is_as_long_as_its_shares() -> None:
    screen = Screen(is_terminal=True)
    screen.show(*make_history(20).steps[:1])
    bar = next(line for line in screen.frame().splitlines() if "segments" in line)
    # 40 cells: 60 %, 20 %, 15 %, 5 %.
    counts = [bar.count(mark) for mark in ("\u2591", "\u2588", "\u2592", "\u00b7")]
    assert counts == [24, 8, 6, 2]


def test_nothing_is_cut_at_eighty_columns() -> None:
    screen = Screen(is_terminal=True, width=80)
    history = make_history(20)
    screen.show(history.evaluations[0], *history.steps)
    assert "\u2026" not in screen.frame()
    assert max(len(line) for line in screen.frame().splitlines()) <= 80
    assert len(screen.frame().splitlines()) <= 24


def test_a_terminal_without_unicode_gets_ascii() -> None:
    screen = Screen(is_terminal=True, encoding="ascii")
    history = make_history(20)
    screen.show(make_event("started"), *history.steps[:3])
    with screen.view:
        pass
    assert "step 3/20" in screen.text()
    assert "=" * 24 + "#" * 8 + "%" * 6 + "." * 2 in screen.frame()


def test_what_a_model_wrote_cannot_steer_the_terminal() -> None:
    for is_terminal in (False, True):
        screen = Screen(is_terminal=is_terminal)
        screen.show(make_event("group_retried", "bad\x1b[2Jtext [red]x[/red]\nnext"))
        shown = screen.frame() if is_terminal else screen.text()
        assert "\x1b[2J" not in shown
        assert "[red]x[/red] next" in shown


def test_the_end_tells_how_it_went_and_where_it_lies() -> None:
    screen = Screen(is_terminal=False)
    history = make_history(20)
    screen.view.finish(summarise(history, state=RunState.COMPLETED, seconds_to_first_step=58.0))
    shown = screen.text()
    for words in ("tiny: completed", "20 of 20", "40.0% to 90.0%", "58 s", "40 s", "2,000", "80 trained", "runs/tiny"):
        assert words in shown, words


def test_a_failed_run_ends_with_its_cause() -> None:
    screen = Screen(is_terminal=False)
    history = make_history(1)
    failure = Failure(role="learner", cause="the loss is nan", group_id="g7")
    history.add(make_event("failed", "", RunState.FAILED, failure=failure))
    screen.view.finish(summarise(history, state=RunState.FAILED, seconds_to_first_step=None))
    assert "learner (group g7): the loss is nan" in screen.text()
    waited = next(line for line in screen.text().splitlines() if "start to first step" in line)
    assert waited.split()[-1] == "-"


def test_finish_ends_the_redrawing() -> None:
    screen = Screen(is_terminal=True)
    with screen.view as view:
        view.show(make_event("started", "Training"))
        view.finish(summarise(make_history(1), state=RunState.COMPLETED, seconds_to_first_step=1.0))
    assert screen.text().rstrip().endswith("look further)")


def test_time_left_counts_down_between_steps_and_stops_while_paused() -> None:
    clock = Clock(0.0)
    facts = ProgressFacts(make_description(), clock=clock)
    assert facts.seconds_left is None
    facts.take(make_event("started"))
    facts.take(make_step(5))
    assert facts.seconds_left == pytest.approx(10.0)
    clock.now = 4.0
    assert facts.seconds_left == pytest.approx(6.0)
    clock.now = 40.0
    assert facts.seconds_left == 0.0
    facts.take(make_event("drained", "Paused", RunState.PAUSED))
    assert facts.seconds_left is None


def test_speed_is_tokens_over_time_of_the_last_steps() -> None:
    facts = ProgressFacts(make_description(), clock=Clock())
    # Only the last five count: 500 tokens in 10 s.
    for step in range(1, 8):
        facts.take(make_step(step, num_response_tokens=9999 if step < 3 else 100))
    assert facts.tokens_per_second == pytest.approx(50.0)
    assert facts.seconds_per_step == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_as_a_person_would_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
