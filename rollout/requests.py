"""From the next prompt to the requests of its group, round by round.

Everything random is derived from (run seed, ordinal, round), so a group asked for again is the same group.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rollout.plans.base import FinishedRound, RolloutPlan, Round
from rollout.prompts import PromptStream, PromptVisit
from rollout.render import Renderer
from rollout.saved_state import saved_mapping
from rollout.selectors.base import GroupOutcome
from shaping.checks import IntArray
from shaping.memories.base import PromptMemory
from shaping.records import GroupRequest, Prompt, Sampling


@dataclass(slots=True, kw_only=True)
class OpenGroup:
    """A group under way: its prompt, the rounds it has finished, and what was remembered of it when it was opened."""

    ordinal: int
    prompt: Prompt
    visit: int
    prompt_ids: IntArray
    recalled: Mapping[str, float] = field(default_factory=dict)
    finished: list[FinishedRound] = field(default_factory=list)

    @property
    def group_id(self) -> str:
        return group_id_of(self.ordinal)


def group_id_of(ordinal: int) -> str:
    """The id of the group admitted as number `ordinal`."""
    return f"g{ordinal:08d}"


def derive_seed(*parts: int) -> int:
    """A 32-bit seed of its own for each tuple of non-negative integers (numpy SeedSequence)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class GroupFactory:
    """Opens groups, plans their rounds and remembers what they taught. Single-threaded."""

    def __init__(
        self,
        *,
        stream: PromptStream,
        renderer: Renderer,
        plan: RolloutPlan,
        memory: PromptMemory,
        sampling_at: Callable[[int], Sampling],
        seed: int,
    ) -> None:
        self._stream = stream
        self._renderer = renderer
        self._plan = plan
        self._memory = memory
        self._sampling_at = sampling_at
        self._seed = seed

    def resample(self, sampling_at: Callable[[int], Sampling]) -> None:
        """Sample otherwise from the next round on."""
        self._sampling_at = sampling_at

    @property
    def scores_rounds(self) -> bool:
        """Whether each round's rewards must be known before the group can go on."""
        return self._plan.max_rounds > 1

    def open(self, ordinal: int) -> OpenGroup:
        """Take the next prompt of the stream."""
        return self._opened(ordinal, self._stream.next())

    def reopen(self, ordinal: int, prompt_id: str, visit: int) -> OpenGroup:
        """A group that was opened before this process began: the same prompt and, by its ordinal, the same seeds.

        Raises:
            RecipeError: no group of this run has this prompt.
        """
        return self._opened(ordinal, self._stream.again(prompt_id, visit))

    def _opened(self, ordinal: int, item: PromptVisit) -> OpenGroup:
        return OpenGroup(
            ordinal=ordinal,
            prompt=item.prompt,
            visit=item.visit,
            prompt_ids=self._renderer.prompt_ids(item.prompt),
            recalled=self._memory.read(item.prompt.prompt_id),
        )

    def next_request(self, group: OpenGroup, *, num_rounds_done: int, step: int) -> tuple[Round, GroupRequest] | None:
        """The next round of a group, or None when it is complete.

        Args:
            num_rounds_done: rounds generated so far.
            step: learner step whose sampling schedule applies.
        """
        if num_rounds_done and not self.scores_rounds:
            return None
        planned = self._plan.next_round(group.prompt, tuple(group.finished), group.recalled)
        if planned is None:
            return None
        sampling = self._renderer.stop_rules.added_to(self._sampling_at(step))
        if planned.temperature_scale != 1.0:
            sampling = replace(sampling, temperature=sampling.temperature * planned.temperature_scale)
        request = GroupRequest(
            group_id=group.group_id,
            prompt=group.prompt,
            prompt_ids=group.prompt_ids,
            hint_ids=self._renderer.hint_ids(planned.hint),
            round_index=num_rounds_done,
            num_rollouts=planned.num_rollouts,
            sampling=sampling,
            seed=derive_seed(self._seed, group.ordinal, num_rounds_done),
            recalled=group.recalled,
        )
        return planned, request

    def state(self) -> dict[str, object]:
        """JSON data: the prompt stream with its selector, and the prompt memory."""
        return {"stream": self._stream.state(), "memory": self._memory.state()}

    def restore(self, state: dict[str, object]) -> None:
        """Go on exactly as the factory that saved the state would have.

        Raises:
            RecipeError: the state was saved with other data, another selector or another seed.
        """
        self._stream.restore(saved_mapping(state, "stream", "group factory"))
        self._memory.restore(saved_mapping(state, "memory", "group factory"))

    def settle(self, group: OpenGroup, outcome: GroupOutcome) -> None:
        """A group has ended: let memory and selector learn from it. Called in order of ordinals, once per step."""
        prompt_id = group.prompt.prompt_id
        learned = {**self._plan.close(group.prompt, tuple(group.finished)), **outcome.remembered}
        if learned:
            self._memory.write(prompt_id, group.visit, {**self._memory.read(prompt_id), **learned})
        self._stream.observe(outcome)
