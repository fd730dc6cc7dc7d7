"""seele: rounds whose hints bring a prompt's accuracy to a target, by a curve that is fitted to the rounds before.

With group size G, m rounds of n = G / m rollouts, a solution of |y| steps and target a*:

    hint of rate p     the first l steps, l = round(p |y|), half to even
    round 1            the rate remembered of the prompt; (|y| - 1) / |y| the first time
    round i > 1        p_i = f^-1(a*), f fitted to (p_j, a_j) of the rounds j < i, a_j = correct over decided rollouts,
                       rounds of one rate averaged, with (0, 0) and (1, 1) where these rates were not tried
    remembered         the rate of the last round, as `hint_rate`

f and its fit: rollout/accuracy_curve.py. All m n rollouts are one group: take `dr_grpo` as the estimator for the
paper's advantage, `hint_nll` for its term on hint tokens and `learner.kl` for its k3 estimate of the KL. Evaluations
know no plan and never see a hint. A round that is lost is asked for again with the same seed and hint.

Needs solution steps and verdicts. Source: SEELE (arXiv:2509.06923), Eq. 12, 13, 47, 48 and Algorithm 1, from the paper.

What the paper leaves open, each an option with our choice as the default:
  - The unit of |y|: steps, since only they make sense of round 1, and the data have them. `tokens` counts the tokens of
    the whole solution and cuts a hint between any two of them, but never goes on into the last step.
  - The fit is not unique with few points: `start`, `lower` and `upper` as (slope, shift, guess) fix it.
  - f reaches a* nowhere, since its guess rate is above: `guess_above_target`, no hint or the last rate again.
  - `rate`: points and memory hold the realised rate l / |y|, so that "the same rate" can happen, or the predicted one.
  - `first_round`: as the paper's text says (above), or as its Algorithm 1 is printed: fitted to (0, 0) and (1, 1) alone
    at every visit, and nothing is recalled.
  - `remembered`: the rate that round m used, or that of one more fit, after round m.
  - The sum of Eq. 13 runs over rounds, so that a rate tried twice would weigh twice; its a_j is a mean over rounds of
    one rate, which here is one point.
Ours beyond the paper: a rate below 0 is 0, and one beyond the last useful prefix (all steps but the last) is that
prefix, since a whole solution leaves nothing to learn. A round without verdicts is no point of the fit; before there is
a point the rate stays as it is. A hint opens the response, behind the prompt's own end, and never stands in the user's
turn. Rounds that a new policy version breaks apart: see `versions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rollout.accuracy_curve import FitRules, Point, averaged, fit_curve, with_margins
from rollout.plans.base import MAX_MEASURED_ROUNDS, FinishedRound, Round
from rollout.solution_steps import hint_text, why_unusable
from shaping.errors import RecipeError
from shaping.metrics import Mean, Metric
from shaping.records import Prompt
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset({Signal.SOLUTION_STEPS, Signal.VERDICTS})

REMEMBERED = "hint_rate"

_RULES = FitRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    num_rounds: m, a divisor of the group size.
    target: accuracy a* that hints aim at.
    unit: what a hint is cut in.
    start, lower, upper: where each fit begins and its bounds, as (slope, shift, guess).
    guess_above_target: the rate where the curve lies above the target everywhere.
    rate: which rate a round counts as.
    first_round: see above.
    remembered: which rate a prompt's next visit begins with.
    without_steps: a prompt without usable solution steps ends the run before it begins, or gets plain rounds.
    versions: whether all rounds of a group must be sampled by one policy version, since accuracies of several are not
        those of one curve. A group that a new version met is closed with the rounds that it has where they hold two
        outcomes, and begun again otherwise.
    """

    num_rounds: int = 4
    target: float = 0.5
    unit: Literal["steps", "tokens"] = "steps"
    start: tuple[float, ...] = _RULES.start
    lower: tuple[float, ...] = _RULES.lower
    upper: tuple[float, ...] = _RULES.upper
    guess_above_target: Literal["no_hint", "last_rate"] = "no_hint"
    rate: Literal["realised", "predicted"] = "realised"
    first_round: Literal["text", "algorithm"] = "text"
    remembered: Literal["last_used", "refit"] = "last_used"
    without_steps: Literal["refuse", "plain"] = "refuse"
    versions: Literal["one", "any"] = "one"

    def __post_init__(self) -> None:
        if not 2 <= self.num_rounds <= MAX_MEASURED_ROUNDS:
            raise ValueError(f"num_rounds must be in 2..{MAX_MEASURED_ROUNDS}, got {self.num_rounds}")
        if not 0 < self.target < 1:
            raise ValueError(f"target must be in (0, 1), got {self.target}")
        self.fit_rules()

    def fit_rules(self) -> FitRules:
        """Raises: ValueError: a start outside the bounds, or bounds beyond those of a curve."""
        return FitRules(start=self.start, lower=self.lower, upper=self.upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prediction:
    """Args:
    rate: within 0 and the last useful prefix.
    wanted: as the curve has it, which may lie outside; None where it has none.
    error: of the fit.
    """

    rate: float
    wanted: float | None
    error: float


class SeelePlan:
    """A RolloutPlan. Holds no state of its own: the rate of a prompt is remembered for it."""

    def __init__(self, config: Config, *, group_size: int) -> None:
        self._config = config
        self._rules = config.fit_rules()
        self.max_rollouts = group_size
        self.max_rounds = config.num_rounds
        self.one_version = config.versions == "one"

    def refusal(self, prompt: Prompt) -> str:
        """Why no hint can be made of its steps, where such prompts are refused."""
        why = why_unusable(prompt.solution_steps, prompt.reference_answer)
        return why if self._config.without_steps == "refuse" else ""

    def longest_hint(self, prompt: Prompt) -> str:
        """All steps but the last."""
        return hint_text(prompt.solution_steps[:-1]) if _is_usable(prompt) else ""

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        if len(finished) == self.max_rounds:
            return None
        num_rollouts = self.max_rollouts // self.max_rounds
        if not _is_usable(prompt):
            return Round(num_rollouts=num_rollouts)
        rate, steps = self._planned_rate(prompt, finished, recalled), prompt.solution_steps
        if self._config.unit == "tokens":
            hint, solution = hint_text(steps[:-1]), hint_text(steps)
            return Round(num_rollouts=num_rollouts, hint=hint, solution=solution, planned_rate=rate, hint_rate=rate)
        num_steps = round(rate * len(steps))
        return Round(
            num_rollouts=num_rollouts,
            hint=hint_text(steps[:num_steps]),
            planned_rate=rate,
            hint_rate=num_steps / len(steps),
        )

    def close(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, float]:
        """The rate that the prompt's next visit begins with; nothing where there was no round with a rate."""
        if not finished or not _is_usable(prompt):
            return {}
        if self._config.remembered == "refit" and self._points(finished):
            return {REMEMBERED: self._predict(prompt, finished).rate}
        return {REMEMBERED: self._rate_of(finished[-1])}

    def metrics(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
        """The last fit's error, and how many of the fitted rates were cut at either end."""
        if not _is_usable(prompt):
            return {}
        fitted = [
            (each, self._predict(prompt, finished[:index]))
            for index, each in enumerate(finished)
            if self._is_fitted(finished[:index])
        ]
        none = sum(found.wanted is None or found.wanted < 0 for _, found in fitted)
        # What a round counts its rate up to is for whoever made its hint to say: the last useful prefix.
        most = sum(found.wanted is not None and found.wanted > each.round.planned_rate for each, found in fitted)
        return {
            "hint_fit_error": Mean(fitted[-1][1].error if fitted else 0.0, float(bool(fitted))),
            "hint_none_share": Mean(none, len(fitted)),
            "hint_most_share": Mean(most, len(fitted)),
        }

    def _planned_rate(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> float:
        if self._is_fitted(finished):
            return self._predict(prompt, finished).rate
        most = self._most(prompt)
        wanted = self._rate_of(finished[-1]) if finished else recalled.get(REMEMBERED, most)
        return min(max(wanted, 0.0), most)

    def _is_fitted(self, before: tuple[FinishedRound, ...]) -> bool:
        """Whether the round after these follows from a fit."""
        return bool(self._points(before)) or self._config.first_round == "algorithm"

    def _predict(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> _Prediction:
        fit = fit_curve(averaged(with_margins(self._points(finished))), self._rules)
        wanted = fit.curve.rate(self._config.target)
        rate = wanted
        if rate is None:
            keeps = self._config.guess_above_target == "last_rate" and finished
            rate = self._rate_of(finished[-1]) if keeps else 0.0
        return _Prediction(rate=min(max(rate, 0.0), self._most(prompt)), wanted=wanted, error=fit.error)

    def _points(self, finished: tuple[FinishedRound, ...]) -> tuple[Point, ...]:
        seen = ((self._rate_of(each), each.accuracy) for each in finished)
        return tuple((rate, accuracy) for rate, accuracy in seen if accuracy is not None)

    def _rate_of(self, finished: FinishedRound) -> float:
        return finished.round.hint_rate if self._config.rate == "realised" else finished.round.planned_rate

    def _most(self, prompt: Prompt) -> float:
        """The largest rate that is asked for; of tokens, whoever counts them cuts it at the last useful prefix."""
        num_steps = len(prompt.solution_steps)
        return 1.0 if self._config.unit == "tokens" else (num_steps - 1) / num_steps


def _is_usable(prompt: Prompt) -> bool:
    return not why_unusable(prompt.solution_steps, prompt.reference_answer)


def build(config: Config, *, group_size: int) -> SeelePlan:
    """Raises: RecipeError: rounds that do not divide the group size."""
    if group_size % config.num_rounds:
        raise RecipeError(
            f"num_rounds must divide rollout.group_size, got {config.num_rounds} and {group_size}: rounds are of one "
            "size; change one of them (rollout.plan.seele)"
        )
    return SeelePlan(config, group_size=group_size)
