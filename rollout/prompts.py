"""The stream of prompts of a run: what the selector chooses of what the source holds, with a count of visits.

Flow: selector (which index) -> source (the prompt) -> `accept` (does it fit) -> the next group. Knows no tokens: that
a prompt is too long is for `accept` to say.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rollout.saved_state import saved_mapping
from rollout.selectors.base import GroupOutcome, PromptSelector
from rollout.sources.base import PromptSource
from shaping.errors import DataError, RecipeError, RecordError
from shaping.records import Prompt

_WHERE = "prompt stream"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVisit:
    """A prompt and how often the run was given it, this time included: 1 at the first visit."""

    prompt: Prompt
    visit: int


@dataclass(slots=True, kw_only=True)
class _Seen:
    position: int
    num_visits: int


def accept_every(prompt: Prompt) -> bool:
    """Leaves no prompt out."""
    del prompt
    return True


class PromptStream:
    """Endless prompts in the selector's order, resumable.

    Args:
        accept: whether a prompt can be used. Pure; a prompt that it refuses is left out and not asked about again.
        accept_rule: what `accept` demands, for the error message.
    """

    def __init__(
        self,
        source: PromptSource,
        selector: PromptSelector,
        *,
        accept: Callable[[Prompt], bool] = accept_every,
        accept_rule: str = "",
    ) -> None:
        self._source = source
        self._selector = selector
        self._accept = accept
        self._accept_rule = accept_rule
        self._seen: dict[str, _Seen] = {}
        self._left_out: set[int] = set()
        self._num_given = 0

    @property
    def num_given(self) -> int:
        """Prompts given since the start of the run."""
        return self._num_given

    @property
    def num_left_out(self) -> int:
        """Distinct prompts that `accept` refused since this process started."""
        return len(self._left_out)

    def next(self) -> PromptVisit:
        """The next prompt that `accept` takes.

        Raises:
            DataError: every prompt was refused, or the selector gave nothing else for two epochs' worth of choices.
        """
        num_prompts = len(self._source)
        # In an order that changes by the epoch, the one good prompt may come first in an epoch and last in the next.
        for _ in range(2 * num_prompts):
            index = self._selector.next_index()
            if index in self._left_out:
                continue
            prompt = self._source.prompt(index)
            if self._accept(prompt):
                return self._given(prompt, index)
            self._leave_out(index)
            if len(self._left_out) == num_prompts:
                break
        rule = self._accept_rule or "every prompt must be acceptable"
        raise DataError(
            f"{rule}; found no such prompt, {len(self._left_out)} of {num_prompts} were left out "
            "(prompt stream): raise the limit or use other data"
        )

    def again(self, prompt_id: str, visit: int) -> PromptVisit:
        """A prompt that was given before, for a group that is asked for again; the selector does not move.

        Raises:
            RecipeError: the stream never gave this prompt.
        """
        seen = self._seen.get(prompt_id)
        if seen is None:
            raise RecipeError(
                f"a group can be asked for again only with a prompt of this run, not {prompt_id!r} ({_WHERE})"
            )
        return PromptVisit(prompt=self._source.prompt(seen.position), visit=visit)

    def observe(self, outcome: GroupOutcome) -> None:
        """Tell the selector how a group of this stream has ended.

        Raises:
            RecordError: the stream never gave this prompt.
        """
        seen = self._seen.get(outcome.prompt_id)
        if seen is None:
            raise RecordError(f"an outcome must be of a prompt that was given, got {outcome.prompt_id!r} ({_WHERE})")
        self._selector.observe(seen.position, outcome)

    def state(self) -> dict[str, object]:
        """JSON data: what the selector saved, and position and visits of every prompt given."""
        return {
            "selector": self._selector.state(),
            "seen": {prompt_id: [seen.position, seen.num_visits] for prompt_id, seen in self._seen.items()},
        }

    def restore(self, state: dict[str, object]) -> None:
        """Go on exactly as the stream that saved the state would have.

        Raises:
            RecipeError: the state was saved with other data, another selector or another seed.
        """
        seen = _saved_seen(saved_mapping(state, "seen", _WHERE))
        self._check_same_data(seen)
        self._selector.restore(saved_mapping(state, "selector", _WHERE))
        self._seen = seen
        self._num_given = sum(each.num_visits for each in seen.values())

    def _leave_out(self, index: int) -> None:
        self._left_out.add(index)
        number = len(self._left_out)
        if str(number).rstrip("0") == "1":
            _LOG.warning("lessrl: note: prompts left out so far: %d; %s", number, self._accept_rule or "not acceptable")

    def _given(self, prompt: Prompt, index: int) -> PromptVisit:
        seen = self._seen.setdefault(prompt.prompt_id, _Seen(position=index, num_visits=0))
        seen.num_visits += 1
        self._num_given += 1
        return PromptVisit(prompt=prompt, visit=seen.num_visits)

    def _check_same_data(self, seen: Mapping[str, _Seen]) -> None:
        for prompt_id, each in seen.items():
            found = self._source.prompt(each.position).prompt_id if each.position < len(self._source) else "none"
            if found != prompt_id:
                raise RecipeError(
                    f"a saved state must fit the run's data: prompt {each.position} was {prompt_id!r} and is {found!r} "
                    f"now; resume with the data it was saved with ({_WHERE})"
                )


def _saved_seen(rows: Mapping[str, object]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for prompt_id, row in rows.items():
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(each, int) for each in row)):
            raise RecipeError(f"a seen prompt must be saved as [position, visits], got {row!r} ({_WHERE})")
        seen[prompt_id] = _Seen(position=row[0], num_visits=row[1])
    return seen
