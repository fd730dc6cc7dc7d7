"""The first groups of each step, written down so that a person can see why each token got its advantage.

Flow: shaping role -> `GroupDump.offer` -> one JSON line per group in the format of docs/explain.md. All shaping workers
of a run append to one file, a whole line at a time under the file's lock; a killed run leaves whole lines. Knows no
LESS: it writes what was done.
"""

import fcntl
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from services.explain.file import VERSION
from services.recipe import Recipe
from services.token_names import TokenNames
from shaping.checks import FloatArray
from shaping.components import load
from shaping.groups import ShapedGroup
from shaping.kernels.base import SegmentRule
from shaping.pipeline import TrainableGroup
from shaping.records import Prompt, Rollout, StopReason

logger = logging.getLogger(__name__)


class GroupDump:
    """Appends groups to a file.

    Which groups is decided by their number, not by who comes first: the first to be finished are the short ones.

    Args:
        path: the file; made with the first group.
        groups_per_step: groups that are sampled for a step.
        dumped_per_step: how many of them are written.
        names: text of token ids.
        shaper: options of the LESS shaper, which are not in the segment rule.
    """

    def __init__(
        self, path: Path, *, groups_per_step: int, dumped_per_step: int, names: TokenNames, shaper: dict[str, Any]
    ) -> None:
        self._path = path
        self._groups_per_step = groups_per_step
        self._dumped_per_step = dumped_per_step
        self.names = names
        self._shaper = shaper

    def offer(self, group: TrainableGroup) -> None:
        """Write a group, if it is one of those. A file that cannot be written is told once, then left alone."""
        if _ordinal(group.group_id) % self._groups_per_step >= self._dumped_per_step:
            return
        line = json.dumps(self._record(group.shaped), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            with self._path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(line.encode("utf-8", "replace") + b"\n")
        except OSError as error:
            self._dumped_per_step = 0
            logger.warning("no more groups are dumped by this worker: %s (%s)", error.strerror, self._path)

    def _record(self, shaped: ShapedGroup) -> dict[str, Any]:
        segmented = shaped.segmented
        group = segmented.scored.group
        scored = segmented.scored
        columns = zip(
            group.rollouts, scored.correct, scored.rewards, shaped.base_advantages, shaped.multipliers, strict=True
        )
        return {
            "version": VERSION,
            "prompt_id": group.prompt.prompt_id,
            "prompt": _turns(group.prompt),
            "group_id": group.group_id,
            # The step that these groups are sampled for; with staleness a later one may train them.
            "step": group.min_policy_version + 1,
            "policy_version": group.min_policy_version,
            "vocab_size": group.vocab_size,
            "less": self._options(segmented.rule),
            "responses": [self._response(*each) for each in columns],
        }

    def _options(self, rule: SegmentRule) -> dict[str, Any]:
        options = asdict(rule) | self._shaper
        # The authors' matching knows no k-grams: a run in mode compat does without, whatever its segments say.
        return options | {"match": "segment"} if options.get("mode") == "compat" else options

    def _response(
        self, rollout: Rollout, correct: bool, reward: np.float32, base: FloatArray, multipliers: FloatArray
    ) -> dict[str, Any]:
        ids = rollout.response_ids.tolist()
        hint = "".join(map(self.names, rollout.hint_ids.tolist()))
        return {
            "correct": bool(correct),
            **({"hint": hint} if hint else {}),
            "token_ids": ids,
            "tokens": [self.names(each) for each in ids],
            "entropies": _shortest(rollout.entropies),
            "advantages": _shortest(base[:1])[0] if len(set(base.tolist())) == 1 else _shortest(base),
            "multipliers": _shortest(multipliers),
            # What an explanation does not need, and a reader of the run wants to see beside it.
            "extra": {"reward": float(str(reward)), "is_truncated": rollout.stop_reason is StopReason.LENGTH},
        }


def open_dump(recipe: Recipe, path: Path, before: GroupDump | None = None) -> GroupDump | None:
    """What a recipe wants dumped.

    Args:
        before: of an earlier recipe of the run, whose names of tokens are taken over; reading them takes a second.
    Raises:
        DataError: the model has no tokenizer that can be read.
    """
    if recipe.run.dump_groups_per_step == 0:
        return None
    shapers = [load("shaping.shapers", spec, "shaping.shapers") for spec in recipe.shaping.shapers]
    less = next((asdict(shaper.config) for shaper in shapers if shaper.kind == "less"), {})
    return GroupDump(
        path,
        groups_per_step=recipe.rollout.groups_per_step,
        dumped_per_step=recipe.run.dump_groups_per_step,
        names=before.names if before else TokenNames.load(recipe.model.path),
        shaper=less,
    )


def _ordinal(group_id: str) -> int:
    """The group's place in the order of admission, see `rollout.requests.OpenGroup`."""
    return int(group_id.removeprefix("g"))


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in prompt.messages]


def _shortest(values: FloatArray) -> list[float]:
    """The fewest digits that read back as the same float32."""
    distinct, places = np.unique(values, return_inverse=True)
    texts = np.array([float(str(each)) for each in distinct], np.float64)
    numbers: list[float] = texts[places].tolist()
    return numbers
