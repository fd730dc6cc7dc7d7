"""A study's file: which arms are compared, from which seeds, how they run and what is measured. YAML -> Study.

Knows no arm's recipe: what the values mean together is the business of services/study/planning.py.
"""

import difflib
import re
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.addresses import HOUSE_ADDRESS
from services.recipe import PLAIN_MESSAGES
from services.recipe_yaml import read_yaml, yaml_fault
from services.study.measures import DEFAULT_MEASURES, check_measures
from shaping.errors import UserError

_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
MAX_SEEDS = 1000


class _Section(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Section):
    """One method: what it changes of the study's recipe.

    Args:
        with: recipe layers, as with `--with`, looked for beside the study's file.
        set: recipe keys and their values, as with `--set`.
    """

    layers: tuple[str, ...] = Field(default=(), alias="with")
    overrides: dict[str, Any] = Field(default={}, alias="set")


class StudyRuns(_Section):
    """How the runs are started.

    Args:
        address: "house" (one process without Ray), "local" (a Ray for each run) or a Ray address.
        jobs: runs side by side.
    """

    address: str = HOUSE_ADDRESS
    jobs: int = Field(default=1, ge=1)


class Study(_Section):
    """The whole file.

    Args:
        recipe: that every arm begins from, relative to the study's file.
        with, set: layers and keys of every arm, before the arm's own.
        baseline: the arm that the others are compared with.
        seeds: a list, or how many (0, 1, ...).
        num_samples: answers to each held-out problem (k); null: what the recipe says.
        measures: the first decides, see services/study/measures.py.
    """

    name: str
    recipe: str
    layers: tuple[str, ...] = Field(default=(), alias="with")
    overrides: dict[str, Any] = Field(default={}, alias="set")
    arms: dict[str, Arm]
    baseline: str
    seeds: tuple[int, ...]
    num_samples: int | None = Field(default=None, ge=1)
    run: StudyRuns = StudyRuns()
    measures: tuple[str, ...] = DEFAULT_MEASURES

    @field_validator("arms", mode="before")
    @classmethod
    def _empty_arms(cls, arms: Any) -> Any:
        """An arm that changes nothing may be written `name:`."""
        return {str(name): each or {} for name, each in arms.items()} if isinstance(arms, dict) else arms

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted_seeds(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if not 1 <= seeds <= MAX_SEEDS:
                raise ValueError(f"seeds must be 1 to {MAX_SEEDS}, or a list, got {seeds}")
            return tuple(range(seeds))
        return seeds

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _ARM.fullmatch(self.name):
            raise ValueError(f"name must be 1 to 32 letters, digits, dots, dashes or underscores, got {self.name!r}")
        for name in self.arms:
            if not _ARM.fullmatch(name):
                raise ValueError(
                    f"an arm's name must be 1 to 32 letters, digits, dots, dashes or underscores, got {name!r}"
                )
        if len(self.arms) < 2:
            raise ValueError(f"arms must be at least two, got {', '.join(self.arms) or 'none'}")
        if self.baseline not in self.arms:
            raise ValueError(f"baseline must be one of the arms {', '.join(self.arms)}, got {self.baseline!r}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different numbers >= 0, got {list(self.seeds)}")
        check_measures(self.measures)
        return self


def load_study(path: Path) -> Study:
    """Read a study's file.

    Raises:
        UserError: no file, no YAML mapping, an unknown key or a value that cannot work.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"a study must be a YAML file, found no file {path}; see deploy/studies for some") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"a study must be valid YAML: {yaml_fault(error)} ({path})") from error
    if not isinstance(raw, dict):
        raise UserError(f"a study must be a mapping of keys, found {type(raw).__name__} ({path})")
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(error, str(path))) from error


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    place = f"{'.'.join(keys)} in {where}" if keys else where
    if first["type"] == "extra_forbidden":
        known = sorted(each.alias or name for name, each in _section_of(keys).model_fields.items())
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {keys[-1]!r}; {hint} ({place})"
    if first["type"] == "missing":
        return f"{keys[-1]} must be given ({place})"
    if first["type"] == "value_error":
        return f"{first['msg'].removeprefix('Value error, ')} ({place})"
    message = PLAIN_MESSAGES.get(first["type"], first["msg"].replace("Input should be", "must be", 1))
    return f"{message}, got {first['input']!r} ({place})"


def _section_of(keys: list[str]) -> type[_Section]:
    """That a key stands in: an arm, `run`, or the study itself."""
    if len(keys) == 1:
        return Study
    return Arm if keys[0] == "arms" else StudyRuns
