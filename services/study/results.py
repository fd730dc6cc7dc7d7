"""What the finished runs of a study amount to: means over seeds, differences paired by seed, verdicts.

RunRecord of every finished run -> StudyResults, as results.json holds it. The first measure decides. It is compared
twice: at equal steps, which is the last evaluation, and at equal generated tokens: each run's curve over the response
tokens that it had sampled by each evaluation is read, on the straight line between its evaluations, at the fewest
tokens that any run of the study ended with. A method that samples longer responses, or more of them, pays for them
there. Both comparisons of all arms are judged together, see shaping/evaluation/paired_seeds.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.plain_data import plain_data
from services.study.planning import StudyPlan
from services.study.processes import Outcome
from services.study.reading import RunRecord
from services.study.seed_means import SeedMean, bands, seed_mean
from shaping.errors import DataError
from shaping.evaluation.bootstrap import Column
from shaping.evaluation.paired_seeds import PairedDifference, Verdict, paired_difference, value_at

TOKEN_POINTS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A mean over seeds along steps or tokens, with the 95 % interval of each point by itself.

    Args:
        positions, means, lows, highs: [X] each; lows and highs are infinite of a single seed.
    """

    positions: Column
    means: Column
    lows: Column
    highs: Column

    def as_dict(self) -> dict[str, list[float | None]]:
        """In JSON's types; an open end is null."""
        columns = {"positions": self.positions, "means": self.means, "lows": self.lows, "highs": self.highs}
        plain: dict[str, list[float | None]] = plain_data({name: each.tolist() for name, each in columns.items()})
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResults:
    """One arm over its finished seeds.

    Args:
        measures: by name; one that no run has is absent.
        by_steps, by_tokens: the deciding measure.
        curves: step metrics over steps.
        num_same_prompts: seeds whose prompts came as in the baseline's run of that seed.
    """

    seeds: tuple[int, ...]
    measures: Mapping[str, SeedMean]
    by_steps: Curve
    by_tokens: Curve
    curves: Mapping[str, Curve]
    num_same_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An arm against the baseline.

    Args:
        at_steps, at_tokens: of the deciding measure, judged.
        others: of all other measures, each with its own 95 % interval: told, not judged.
    """

    at_steps: PairedDifference
    at_tokens: PairedDifference
    others: Mapping[str, PairedDifference]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResults:
    """The whole.

    Args:
        decides: the measure that is judged.
        num_tokens: at which runs are compared at equal tokens.
        comparisons: by arm; an arm that shares no finished seed with the baseline is absent.
        failures: runs that failed, with their causes.
    """

    name: str
    baseline: str
    decides: str
    measures: tuple[str, ...]
    num_comparisons: int
    num_tokens: float
    arms: Mapping[str, ArmResults]
    comparisons: Mapping[str, Comparison]
    records: tuple[RunRecord, ...]
    failures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def verdicts(self, arm: str) -> dict[str, Verdict]:
        """Of both comparisons of an arm."""
        found = self.comparisons[arm]
        return {"at_equal_steps": found.at_steps.verdict, "at_equal_tokens": found.at_tokens.verdict}

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        plain: dict[str, Any] = plain_data(
            {
                "name": self.name,
                "baseline": self.baseline,
                "decides": self.decides,
                "num_comparisons": self.num_comparisons,
                "num_tokens": self.num_tokens,
                "arms": {name: _arm_dict(each) for name, each in self.arms.items()},
                "comparisons": {name: _comparison_dict(each) for name, each in self.comparisons.items()},
                "runs": [
                    {"arm": each.arm, "seed": each.seed, "measures": dict(each.measures)} for each in self.records
                ],
                "failures": [{"run": name, "cause": cause} for name, cause in self.failures],
                "notes": self.notes,
            }
        )
        return plain


def make_results(plan: StudyPlan, records: Sequence[RunRecord], failures: Iterable[Outcome] = ()) -> StudyResults:
    """Work out what finished runs amount to.

    Raises:
        DataError: no run is finished, or runs were not evaluated at the same steps.
    """
    study = plan.study
    decides = study.measures[0]
    _check(records, decides)
    num_tokens = min(float(each.tokens[-1]) for each in records)
    by_arm = {name: {each.seed: each for each in records if each.arm == name} for name in study.arms}
    baseline = by_arm[study.baseline]
    comparisons = {
        name: _compare(runs, baseline, plan, num_tokens)
        for name, runs in by_arm.items()
        if name != study.baseline and runs.keys() & baseline.keys()
    }
    return StudyResults(
        name=study.name,
        baseline=study.baseline,
        decides=decides,
        measures=study.measures,
        num_comparisons=plan.num_comparisons,
        num_tokens=num_tokens,
        arms={name: _arm(list(runs.values()), baseline, decides, num_tokens) for name, runs in by_arm.items() if runs},
        comparisons=comparisons,
        records=tuple(records),
        failures=tuple((each.run.name, each.cause) for each in failures),
        notes=(*plan.notes, *_missing(by_arm, len(study.seeds))),
    )


def _check(records: Sequence[RunRecord], decides: str) -> None:
    if not records:
        raise DataError("a study needs a finished run before there are results, found none; see its logs")
    if missing := [f"{each.arm}, seed {each.seed}" for each in records if decides not in each.evaluations]:
        raise DataError(f"every evaluation must have {decides}, found none in {missing[0]} (measures in the study)")
    if len({each.steps for each in records}) > 1:
        raise DataError("runs of a study must be evaluated at the same steps, found others in some of them")


def _arm(runs: Sequence[RunRecord], baseline: Mapping[int, RunRecord], decides: str, num_tokens: float) -> ArmResults:
    names = dict.fromkeys(name for each in runs for name in each.measures)
    found = {name: seed_mean(_column(runs, name)) for name in names}
    grid = np.linspace(0, num_tokens, TOKEN_POINTS)
    steps = np.array(runs[0].steps, np.float64)
    over_tokens = np.array([[value_at(at, each.tokens, each.evaluations[decides]) for at in grid] for each in runs])
    metrics = {name: np.stack([each.curves[name] for each in runs]) for name in runs[0].curves}
    return ArmResults(
        seeds=tuple(each.seed for each in runs),
        measures={name: each for name, each in found.items() if each is not None},
        by_steps=_curve(steps, np.stack([each.evaluations[decides] for each in runs])),
        by_tokens=_curve(grid, over_tokens),
        curves={name: _curve(np.arange(1.0, table.shape[1] + 1), table) for name, table in metrics.items()},
        num_same_prompts=sum(each.seed in baseline and each.prompts == baseline[each.seed].prompts for each in runs),
    )


def _curve(positions: Column, table: Column) -> Curve:
    """Of [S, X] numbers; a point that some seed does not have is left out."""
    is_whole = np.isfinite(table).all(axis=0)
    positions, table = positions[is_whole], table[:, is_whole]
    lows, highs = bands(table)
    return Curve(positions=positions, means=table.mean(axis=0), lows=lows, highs=highs)


def _compare(
    runs: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord], plan: StudyPlan, num_tokens: float
) -> Comparison:
    seeds = [seed for seed in plan.study.seeds if seed in runs and seed in baseline]
    own, other = [runs[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    decides, num_comparisons = plan.study.measures[0], plan.num_comparisons

    def difference(one: Column, two: Column, count: int) -> PairedDifference | None:
        return paired_difference(one, two, num_comparisons=count)

    at_steps = difference(_column(own, decides), _column(other, decides), num_comparisons)
    early = [_at_tokens(each, decides, num_tokens) for each in (own, other)]
    at_tokens = difference(early[0], early[1], num_comparisons)
    assert at_steps is not None and at_tokens is not None, "seeds that both have"
    others = {name: difference(_column(own, name), _column(other, name), 1) for name in plan.study.measures[1:]}
    return Comparison(
        at_steps=at_steps,
        at_tokens=at_tokens,
        others={name: each for name, each in others.items() if each is not None},
    )


def _at_tokens(runs: Sequence[RunRecord], decides: str, num_tokens: float) -> Column:
    return np.array([value_at(num_tokens, each.tokens, each.evaluations[decides]) for each in runs])


def _column(runs: Sequence[RunRecord], name: str) -> Column:
    return np.array([each.measures.get(name, np.nan) for each in runs])


def _missing(by_arm: Mapping[str, Mapping[int, RunRecord]], num_seeds: int) -> list[str]:
    return [
        f"{name}: {len(runs)} of {num_seeds} runs are finished"
        for name, runs in by_arm.items()
        if len(runs) < num_seeds
    ]


def _arm_dict(arm: ArmResults) -> dict[str, Any]:
    return {
        "seeds": arm.seeds,
        "measures": {name: each.as_dict() for name, each in arm.measures.items()},
        "by_steps": arm.by_steps.as_dict(),
        "by_tokens": arm.by_tokens.as_dict(),
        "curves": {name: each.as_dict() for name, each in arm.curves.items()},
        "num_same_prompts": arm.num_same_prompts,
    }


def _comparison_dict(found: Comparison) -> dict[str, Any]:
    judged = {"at_equal_steps": found.at_steps, "at_equal_tokens": found.at_tokens}
    return {
        **{name: {**each.as_dict(), "verdict": each.verdict} for name, each in judged.items()},
        "others": {name: each.as_dict() for name, each in found.others.items()},
    }
