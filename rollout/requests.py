"""From the next prompt to the requests of its group, round by round.

Everything random is derived from (run seed, ordinal, round), so a group asked for again is the same group.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rollout.plans.base import FinishedRound, RolloutPlan, Round, round_metrics
from rollout.prompts import PromptStream, PromptVisit
from rollout.render import Renderer
from rollout.saved_state import saved_mapping
from rollout.selectors.base import GroupOutcome
from shaping.checks import IntArray
from shaping.memories.base import PromptMemory
from shaping.metrics import Metric
from shaping.records import GroupRequest, Prompt, Sampling


@dataclass(slots=True, kw_only=True)
class OpenGroup:
    """A group under way: its prompt, the rounds it has finished, and what was remembered of it when it was opened.

    Args:
        num_begun_again: times that its rounds were given up, and sampled again by a newer policy version.
        num_discarded_tokens: response tokens of rounds that were sampled and are not part of the group.
        is_closed_early: a newer policy version ended it before its last round.
    """

    ordinal: int
    prompt: Prompt
    visit: int
    prompt_ids: IntArray
    recalled: Mapping[str, float] = field(default_factory=dict)
    finished: list[FinishedRound] = field(default_factory=list)
    num_begun_again: int = 0
    num_discarded_tokens: int = 0
    is_closed_early: bool = False

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

    @property
    def keeps_one_version(self) -> bool:
        """Whether all rounds of a group must be sampled by one policy version."""
        return self.scores_rounds and self._plan.one_version

    def open(self, ordinal: int) -> OpenGroup:
        """Take the next prompt of the stream."""
        item = self._stream.next()
        return self._opened(ordinal, item, self.recalled(item.prompt.prompt_id))

    def recalled(self, prompt_id: str) -> dict[str, float]:
        """What is remembered of a prompt now."""
        return self._memory.read(prompt_id)

    def reopen(self, ordinal: int, prompt_id: str, visit: int, recalled: Mapping[str, float]) -> OpenGroup:
        """A group that was opened before this process began: the same prompt and, by its ordinal, the same seeds.

        Args:
            recalled: of the prompt when the group was opened.
        Raises:
            RecipeError: no group of this run has this prompt.
        """
        return self._opened(ordinal, self._stream.again(prompt_id, visit), recalled)

    def _opened(self, ordinal: int, item: PromptVisit, recalled: Mapping[str, float]) -> OpenGroup:
        return OpenGroup(
            ordinal=ordinal,
            prompt=item.prompt,
            visit=item.visit,
            prompt_ids=self._renderer.prompt_ids(item.prompt),
            recalled=recalled,
        )

    def next_request(self, group: OpenGroup, *, num_rounds_done: int, step: int) -> tuple[Round, GroupRequest] | None:
        """The next round of a group, or None when it is complete.

        Args:
            num_rounds_done: rounds generated so far.
            step: learner step whose sampling schedule applies.
        Returns:
            The round as it is asked for, with the rate of the hint that is given, and the request.
        """
        if num_rounds_done and not self.scores_rounds:
            return None
        planned = self._plan.next_round(group.prompt, tuple(group.finished), group.recalled)
        if planned is None:
            return None
        planned, hint_ids = self._with_hint(planned)
        sampling = self._renderer.stop_rules.added_to(self._sampling_at(step))
        if planned.temperature_scale != 1.0:
            sampling = replace(sampling, temperature=sampling.temperature * planned.temperature_scale)
        request = GroupRequest(
            group_id=group.group_id,
            prompt=group.prompt,
            prompt_ids=group.prompt_ids,
            hint_ids=hint_ids,
            round_index=num_rounds_done,
            num_rollouts=planned.num_rollouts,
            sampling=sampling,
            seed=derive_seed(self._seed, group.ordinal, num_rounds_done),
            recalled=group.recalled,
        )
        return planned, request

    def _with_hint(self, planned: Round) -> tuple[Round, IntArray]:
        """The tokens of a round's hint, and the round with the rate that they are."""
        hint_ids = self._renderer.hint_ids(planned.hint)
        if not planned.solution:
            return planned, hint_ids
        num_tokens = len(self._renderer.hint_ids(planned.solution))
        # Cut as tokens: the text of a part would have others at its end.
        num_given = min(round(planned.planned_rate * num_tokens), len(hint_ids))
        most = len(hint_ids) / num_tokens
        given = replace(planned, planned_rate=min(planned.planned_rate, most), hint_rate=num_given / num_tokens)
        return given, hint_ids[:num_given]

    def metrics(self, group: OpenGroup) -> dict[str, Metric]:
        """What the rounds of a group that has ended are measured by; nothing under a plan of one round."""
        if not self.scores_rounds:
            return {}
        finished = tuple(group.finished)
        return {**round_metrics(finished), **self._plan.metrics(group.prompt, finished)}

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
