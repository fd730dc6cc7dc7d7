"""What a study means: each arm's recipe worked out, the runs in the order in which they begin, and why it cannot work.

Study -> StudyPlan. Starts nothing and writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.addresses import HOUSE_ADDRESS
from services.house_mode import check_house_mode
from services.plan import RunPlan, make_plan
from services.recipe import Recipe, load_recipe
from services.study.document import Arm, Study
from shaping.errors import RecipeError, UserError

SAME_IN_ALL_ARMS = ("model", "data.evaluation", "evaluation", "run.steps")
"""What arms must share to be compared at all."""

SAME_PROMPTS = ("data.train", "rollout.selector", "rollout.groups_per_step", "rollout.max_prompt_tokens")
"""What decides which prompts come in which step, as long as no group is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a study."""

    arm: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """Its directory below those of recipes, runs and logs."""
        return f"{self.arm}/seed-{self.seed:03d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A study worked out.

    Args:
        runs: seed by seed, so that a study that ends early has whole pairs.
        plans: of each arm, the seed makes no difference to it.
        notes: what a reader of the results should know, one line each.
        warnings: those of `lessrl plan`, each once.
    """

    study: Study
    runs: tuple[PlannedRun, ...]
    plans: Mapping[str, RunPlan]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def num_comparisons(self) -> int:
        """Differences that are judged together: every other arm, at equal steps and at equal tokens."""
        return 2 * (len(self.study.arms) - 1)

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "name": self.study.name,
            "arms": {name: plan.as_dict() for name, plan in self.plans.items()},
            "baseline": self.study.baseline,
            "seeds": list(self.study.seeds),
            "num_runs": len(self.runs),
            "num_comparisons": self.num_comparisons,
            "address": self.study.run.address,
            "jobs": self.study.run.jobs,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def plan_study(study: Study, *, base_dir: Path) -> StudyPlan:
    """Work a study out.

    Args:
        base_dir: folder of the study's file.
    Raises:
        UserError: the first reason why an arm cannot work, with the arm's name, or why arms cannot be compared.
    """
    first = study.seeds[0]
    recipes = {name: _load(study, name, first, base_dir) for name in study.arms}
    plans = {name: _plan(study, name, recipe) for name, recipe in recipes.items()}
    _check_comparable(study, recipes)
    runs = [
        PlannedRun(arm=arm, seed=seed, recipe=recipes[arm] if seed == first else _load(study, arm, seed, base_dir))
        for seed in study.seeds
        for arm in study.arms
    ]
    return StudyPlan(
        study=study,
        runs=tuple(runs),
        plans=plans,
        notes=tuple(_pairing_notes(study, recipes)),
        warnings=tuple(_warnings(plans)),
    )


def _load(study: Study, name: str, seed: int, base_dir: Path) -> Recipe:
    arm = study.arms[name]
    overrides = {**study.overrides, **arm.overrides}
    if own := sorted({"name", "seed"} & overrides.keys()):
        raise UserError(f"a study sets {own[0]} of each run itself; take it out of set (arm {name})")
    overrides |= {"name": f"{study.name}-{name}-{seed}", "seed": seed}
    if study.num_samples is not None:
        overrides["evaluation.num_samples"] = study.num_samples
    try:
        return load_recipe(base_dir / study.recipe, overrides, layers=_layers(study, arm, base_dir))
    except RecipeError as error:
        raise RecipeError(f"{error} (arm {name})") from error


def _layers(study: Study, arm: Arm, base_dir: Path) -> list[Path]:
    """Beside the study's file where they are there, else for the recipe's reader to find."""
    names = [Path(each) for each in (*study.layers, *arm.layers)]
    return [base_dir / each if (base_dir / each).is_file() else each for each in names]


def _plan(study: Study, name: str, recipe: Recipe) -> RunPlan:
    try:
        if study.run.address == HOUSE_ADDRESS:
            check_house_mode(recipe)
        return make_plan(recipe)
    except RecipeError as error:
        raise RecipeError(f"{error} (arm {name})") from error


def _check_comparable(study: Study, recipes: Mapping[str, Recipe]) -> None:
    baseline = flat(recipes[study.baseline].as_dict())
    if recipes[study.baseline].data.evaluation is None:
        raise UserError(
            "a study needs held-out problems to compare arms on, found none (data.evaluation in the recipe); name some"
        )
    for name, recipe in recipes.items():
        differing = _differing(flat(recipe.as_dict()), baseline, SAME_IN_ALL_ARMS)
        if differing:
            raise UserError(
                f"arms must share {', '.join(SAME_IN_ALL_ARMS)}, found another {differing[0]} in {name} than in "
                f"{study.baseline}; set it for all arms, at the top of the study"
            )


def _pairing_notes(study: Study, recipes: Mapping[str, Recipe]) -> list[str]:
    baseline = flat(recipes[study.baseline].as_dict())
    found = {name: _differing(flat(each.as_dict()), baseline, SAME_PROMPTS) for name, each in recipes.items()}
    return [
        f"{name} sees other prompts than {study.baseline} from the same seed: {', '.join(keys)} differs"
        for name, keys in found.items()
        if keys
    ]


def _warnings(plans: Mapping[str, RunPlan]) -> list[str]:
    """Those of `lessrl plan`, each once."""
    said: dict[str, list[str]] = {}
    for name, plan in plans.items():
        for warning in plan.warnings:
            said.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(plans) else f"{', '.join(names)}: {warning}" for warning, names in said.items()
    ]


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], sections: tuple[str, ...]) -> list[str]:
    return [
        key
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key) and any(key == each or key.startswith(f"{each}.") for each in sections)
    ]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= flat(each, f"{prefix}{key}.") if isinstance(each, Mapping) else {f"{prefix}{key}": each}
    return found
