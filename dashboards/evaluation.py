"""lessrl-evaluation: held-out accuracy during the run, and benchmarks."""

from dashboards.frame import dashboard
from dashboards.model import Dashboard, Kind, Panel, Query, Section, Unit
from dashboards.palette import BLUE, ORANGE
from dashboards.panels import lines, mean_and_tail, number, per_run
from dashboards.promql import level

_LABELS = ("benchmark", "k")


def _benchmark(score: str, title: str, meaning: str, *, good: str = "it rises, by more than the noise") -> Panel:
    return lines(
        title,
        f"{meaning} Good: {good}. Absent without evaluation.benchmarks.",
        Unit.RATIO,
        Query(level(f"less_evaluation_{score}_at_k_ratio", *_LABELS), "{{run_id}} {{benchmark}} @{{k}}"),
        width=12,
        minimum=0,
    )


_HELD_OUT = Section(
    "Held-out prompts",
    (
        number(
            "Accuracy",
            "Correct held-out answers / decided ones, at the last evaluation. Good: higher than at the start.",
            Unit.RATIO,
            level("less_evaluation_accuracy_ratio"),
            width=6,
        ),
        number(
            "Evaluated after step",
            "Step of the last evaluation. Good: not far behind the run's step.",
            Unit.NUMBER,
            level("less_evaluation_step"),
            width=6,
        ),
        number(
            "Decided answers",
            "Held-out answers with a verdict, which the accuracy is over. Good: above 400, where the accuracy's "
            "standard error is below 0.025.",
            Unit.COUNT,
            level("less_evaluation_decided_answers"),
            width=6,
        ),
        number(
            "Mean response length",
            "Of the held-out answers, in tokens. Good: as in training.",
            Unit.COUNT,
            level("less_evaluation_response_tokens"),
            width=6,
        ),
        lines(
            "Accuracy over time",
            "On held-out prompts, and of the training rollouts. Good: both rise; held-out falling while training "
            "rises is overfitting.",
            Unit.RATIO,
            per_run(level("less_evaluation_accuracy_ratio"), "held-out"),
            per_run(level("less_reward_correct_ratio"), "training"),
            colours={"held-out": ORANGE, "training": BLUE},
            width=12,
            minimum=0,
            maximum=1,
        ),
        lines(
            "Response length over time",
            "Mean of the held-out answers. Good: grows only with accuracy.",
            Unit.COUNT,
            per_run(level("less_evaluation_response_tokens")),
            axis="tokens",
            width=6,
            minimum=0,
        ),
        lines(
            "Time of an evaluation",
            "Mean, and 95 of 100 are below. Good: a small part of the steps between two evaluations.",
            Unit.SECONDS,
            *mean_and_tail("less_evaluation_seconds"),
            width=6,
            minimum=0,
        ),
    ),
)
_BENCHMARKS = Section(
    "Benchmarks, see docs/evaluation.md",
    (
        Panel(
            title="Last scores",
            description="mean@k of each benchmark at its last evaluation. Good: compare runs on the same benchmark "
            "and k.",
            queries=(Query(level("less_evaluation_mean_at_k_ratio", *_LABELS), "{{run_id}} {{benchmark}} @{{k}}"),),
            unit=Unit.RATIO,
            kind=Kind.BARS,
            width=24,
            height=6,
            minimum=0,
            maximum=1,
        ),
        _benchmark("mean", "mean@k", "Mean accuracy of k answers to a problem, over problems."),
        _benchmark("pass", "pass@k", "Problems that one of k different answers solves: what the policy can find."),
        _benchmark(
            "worst",
            "worst@k",
            "Chance that k answers drawn are all right: what the policy can be trusted with. Absent with one answer.",
        ),
        _benchmark(
            "std",
            "std@k",
            "Standard deviation of a problem's right and wrong answers. Absent with one answer.",
            good="it falls while mean@k rises",
        ),
    ),
)


def evaluation() -> Dashboard:
    """What the policy can."""
    return dashboard("evaluation", "Evaluation", "Held-out accuracy and benchmarks.", _HELD_OUT, _BENCHMARKS)
