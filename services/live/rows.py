"""The list of live keys: what each may be, at which border it applies, and when a run has it.

One line a key, on purpose: an operator reads this list, and nothing else can change in a run. A component in a list is
named by its kind, as a recipe may not have two of one kind there and change one of them.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args, get_type_hints

from services.buffer_plan import buffer_config
from services.recipe import Recipe
from services.recipe_sections import RunConfig
from shaping.kernels.base import MAX_MIN_LENGTH, Match, Membership, Outside, Scope
from shaping.less import Mode

MAX_COUNT = 2**31 - 1
MAX_STEPS = 1_000_000
"""The plan looks at the temperature of every one."""

Rule = Callable[[Recipe, Recipe], str]
"""From the recipe now and the one that the roles were started with: why the key is not live; "" where it is."""


class Applies(StrEnum):
    """The border at which a value begins to hold."""

    NEXT_STEP = "next_step"
    NEXT_GROUP = "next_group"


class ValueKind(StrEnum):
    """What a value is."""

    NUMBER = "number"
    INTEGER = "integer"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Of a number; None where it has no end on that side. Only one of `minimum` and `above` is given."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, value: float) -> str:
        """Why the value is outside; "" where it is inside."""
        limits = (
            (self.minimum, operator.ge, ">="),
            (self.above, operator.gt, ">"),
            (self.maximum, operator.le, "<="),
            (self.below, operator.lt, "<"),
        )
        for limit, holds, sign in limits:
            if limit is not None and not holds(value, limit):
                return f"must be {sign} {limit:g}, got {value:g}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """One key that may be live.

    Args:
        slot, component: key of one component, and the kind that it must be for the option to exist; "" for none.
        meaning: of a component's option; "" takes what the config class says of the key.
        is_not_live: see `Rule`.
    """

    key: str
    applies: Applies
    kind: ValueKind
    range: Range = Range()
    choices: tuple[str, ...] = ()
    slot: str = ""
    component: str = ""
    meaning: str = ""
    is_not_live: Rule = lambda _now, _base: ""


def _no_reference(_now: Recipe, base: Recipe) -> str:
    if base.learner.kl.coefficient:
        return ""
    return "the run began with 0, so no reference model is loaded; begin a run with learner.kl.coefficient above 0"


def _nothing_corrected(now: Recipe, _base: Recipe) -> str:
    if now.learner.correction.mode != "none":
        return ""
    return "learner.correction.mode is none, so the bound is read by nothing"


def _two_temperatures(now: Recipe, _base: Recipe) -> str:
    if now.run.max_staleness:
        return (
            f"run.max_staleness is {now.run.max_staleness}, so groups of two temperatures would be trained as one; "
            "change run.max_staleness to 0 first"
        )
    if buffer_config(now).max_age_versions:
        return (
            f"{now.run.admission.kind} leaves groups over for the next step, so groups of two temperatures would be "
            "trained as one; begin a run with run.admission exact"
        )
    return ""


def _nothing_evaluated(now: Recipe, _base: Recipe) -> str:
    if now.data.evaluation or now.evaluation.benchmarks:
        return ""
    return "the run evaluates nothing; begin a run with data.evaluation or evaluation.benchmarks"


_STEP, _GROUP = Applies.NEXT_STEP, Applies.NEXT_GROUP
_NUMBER, _INTEGER, _CHOICE = ValueKind.NUMBER, ValueKind.INTEGER, ValueKind.CHOICE
_FROM_0, _ABOVE_0 = Range(minimum=0), Range(above=0)
_COUNT_FROM_0, _COUNT_FROM_1 = Range(minimum=0, maximum=MAX_COUNT), Range(minimum=1, maximum=MAX_COUNT)

LEARNER_ROWS = (
    LiveRow(
        key="learner.optimizer.learning_rate",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(minimum=0, maximum=1),
        meaning="Of AdamW. Takes the place of a schedule.",
    ),
    LiveRow(key="learner.optimizer.max_grad_norm", applies=_STEP, kind=_NUMBER, range=_FROM_0),
    LiveRow(
        key="learner.loss.clip_low",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(minimum=0, maximum=1),
        meaning="Ratios below 1 - clip_low are clipped (ppo_clip).",
        slot="learner.loss",
        component="ppo_clip",
    ),
    LiveRow(
        key="learner.loss.clip_high",
        applies=_STEP,
        kind=_NUMBER,
        range=_FROM_0,
        meaning="Ratios above 1 + clip_high are clipped (ppo_clip).",
        slot="learner.loss",
        component="ppo_clip",
    ),
    LiveRow(
        key="learner.loss.dual_clip",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(above=1),
        meaning="Bound of the loss of tokens with a negative advantage (ppo_clip).",
        slot="learner.loss",
        component="ppo_clip",
    ),
    LiveRow(
        key="learner.kl.coefficient",
        applies=_STEP,
        kind=_NUMBER,
        range=_ABOVE_0,
        meaning="Weight of the KL term; the reference model stays loaded, so it cannot become 0.",
        is_not_live=_no_reference,
    ),
    LiveRow(
        key="learner.correction.low",
        applies=_STEP,
        kind=_NUMBER,
        range=_FROM_0,
        meaning="Tokens whose ratio of old to behavior probability is below it are left out (mode mask).",
        is_not_live=_nothing_corrected,
    ),
    LiveRow(
        key="learner.correction.high",
        applies=_STEP,
        kind=_NUMBER,
        range=_ABOVE_0,
        meaning="Bound of that ratio above.",
        is_not_live=_nothing_corrected,
    ),
    LiveRow(
        key="learner.regularisers.entropy_bonus.coefficient",
        applies=_STEP,
        kind=_NUMBER,
        meaning="Weight of the mean token entropy; below 0 lowers entropy. Replaces a schedule.",
    ),
    LiveRow(
        key="learner.regularisers.hint_nll.gamma",
        applies=_STEP,
        kind=_NUMBER,
        range=_FROM_0,
        meaning="Weight of the negative log-likelihood of hint tokens.",
    ),
    LiveRow(
        key="learner.token_plans.clip_cov.share",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(above=0, maximum=1),
        meaning="Share of tokens whose gradient is detached.",
    ),
    LiveRow(
        key="learner.token_plans.kl_cov.top_share",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(above=0, maximum=1),
        meaning="Share of tokens that get the KL penalty.",
    ),
    LiveRow(
        key="learner.token_plans.kl_cov.beta",
        applies=_STEP,
        kind=_NUMBER,
        range=_FROM_0,
        meaning="Weight of that penalty.",
    ),
    LiveRow(
        key="learner.token_plans.forking_tokens.top_share",
        applies=_STEP,
        kind=_NUMBER,
        range=Range(above=0, maximum=1),
        meaning="Share of tokens of highest entropy that are trained.",
    ),
)

SHAPING_ROWS = (
    LiveRow(key="shaping.segments.quantile", applies=_GROUP, kind=_NUMBER, range=Range(above=0, below=1)),
    LiveRow(
        key="shaping.segments.min_length",
        applies=_GROUP,
        kind=_INTEGER,
        range=Range(minimum=1, maximum=MAX_MIN_LENGTH),
    ),
    LiveRow(key="shaping.segments.membership", applies=_GROUP, kind=_CHOICE, choices=get_args(Membership)),
    LiveRow(key="shaping.segments.scope", applies=_GROUP, kind=_CHOICE, choices=get_args(Scope)),
    LiveRow(key="shaping.segments.match", applies=_GROUP, kind=_CHOICE, choices=get_args(Match)),
    LiveRow(
        key="shaping.shapers.less.mode",
        applies=_GROUP,
        kind=_CHOICE,
        choices=get_args(Mode),
        meaning="containment, the order-free rule, or compat, the authors' code in the order of the rollouts.",
    ),
    LiveRow(
        key="shaping.shapers.less.outside",
        applies=_GROUP,
        kind=_CHOICE,
        choices=get_args(Outside),
        meaning="Multiplier of low-entropy tokens in no segment: share 1/N, keep 1.",
    ),
)

ROLLOUT_ROWS = (
    LiveRow(
        key="rollout.sampling.temperature",
        applies=_GROUP,
        kind=_NUMBER,
        range=Range(above=0, maximum=100),
        meaning="Of sampling. Takes the place of a schedule.",
        is_not_live=_two_temperatures,
    ),
    LiveRow(
        key="rollout.sampling.top_p",
        applies=_GROUP,
        kind=_NUMBER,
        range=Range(above=0, maximum=1),
        meaning="Share of the probability that is sampled from; 1 keeps every token.",
    ),
    LiveRow(
        key="rollout.sampling.max_response_tokens",
        applies=_GROUP,
        kind=_INTEGER,
        range=_COUNT_FROM_1,
        meaning="Sampled tokens, hints not counted; at most what the run began with, which the engines have room for.",
    ),
)

RUN_ROWS = (
    LiveRow(
        key="run.steps",
        applies=_GROUP,
        kind=_INTEGER,
        range=Range(minimum=1, maximum=MAX_STEPS),
        meaning="Learner steps of the run. Schedules keep their lengths.",
    ),
    LiveRow(key="run.max_staleness", applies=_GROUP, kind=_INTEGER, range=_COUNT_FROM_0),
    LiveRow(
        key="run.admission.max_buffered_groups",
        applies=_GROUP,
        kind=_INTEGER,
        range=_COUNT_FROM_0,
        meaning="Shaped groups that may wait for the learner; 0 means what max_staleness and the admission allow.",
    ),
    LiveRow(
        key="run.admission.over_sampling",
        applies=_GROUP,
        kind=_NUMBER,
        range=Range(minimum=1, maximum=1e6),
        meaning="Groups that start for each that is missing, at most 1 + max_age (rsr).",
        slot="run.admission",
        component="rsr",
    ),
    LiveRow(key="run.max_attempts_per_step", applies=_GROUP, kind=_NUMBER, range=Range(minimum=1, maximum=1e6)),
    LiveRow(
        key="run.at_attempt_cap",
        applies=_GROUP,
        kind=_CHOICE,
        choices=get_args(get_type_hints(RunConfig)["at_attempt_cap"]),
        meaning="What happens when run.max_attempts_per_step is reached.",
    ),
    LiveRow(key="run.dump_groups_per_step", applies=_GROUP, kind=_INTEGER, range=_COUNT_FROM_0),
    LiveRow(key="run.checkpoint.every_steps", applies=_STEP, kind=_INTEGER, range=_COUNT_FROM_0),
    LiveRow(
        key="run.checkpoint.keep_last",
        applies=_STEP,
        kind=_INTEGER,
        range=_COUNT_FROM_1,
        meaning="Checkpoints that are kept: so many, the newest ones.",
    ),
    LiveRow(
        key="evaluation.every_steps",
        applies=_STEP,
        kind=_INTEGER,
        range=_COUNT_FROM_0,
        meaning="Steps between evaluations; 0 evaluates at the start and the end only.",
        is_not_live=_nothing_evaluated,
    ),
    LiveRow(key="run.max_worker_restarts", applies=_STEP, kind=_INTEGER, range=_COUNT_FROM_0),
    LiveRow(key="run.max_skipped_steps", applies=_STEP, kind=_INTEGER, range=_COUNT_FROM_0),
    LiveRow(key="run.max_mismatch_nats", applies=_STEP, kind=_NUMBER, range=_ABOVE_0),
    LiveRow(key="run.max_canary_nats", applies=_STEP, kind=_NUMBER, range=_ABOVE_0),
    LiveRow(key="run.max_no_verdict_share", applies=_STEP, kind=_NUMBER, range=Range(minimum=0, maximum=1)),
)

ROWS = (*LEARNER_ROWS, *SHAPING_ROWS, *ROLLOUT_ROWS, *RUN_ROWS)
