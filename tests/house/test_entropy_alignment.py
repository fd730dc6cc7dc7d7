"""The entropies used are those of the tokens they stand beside, from the sampler to the micro-batch.

Every token of these groups has an entropy of its own, so that the entropy beside a token in a micro-batch says which
(group, rollout, token) it is. Rollouts change places within their group, groups are sampled in rounds by several
workers and shaped by several others, and micro-batches are cut in many ways: the token, its behaviour log-prob and its
shaped advantage must always be the same, and those of the brute-force rule.
"""

import pickle
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from containment_oracle import oracle_group
from group_builders import VOCAB_SIZE, make_prompt, make_rollout

from learner.batch_plan import Layout, plan_batch
from learner.collate import collate
from learner.work import rank_mini_batches
from rollout.engine import EngineInfo
from rollout.worker import RolloutWorker
from services.roles.shaping import ShapingRole
from shaping.config import ShapingConfig
from shaping.kernels.base import SegmentRule
from shaping.pipeline import ShapingPipeline
from shaping.records import GroupRequest, Rollout, RolloutGroup, Sampling
from shaping.training import TrainingSample

RULE = SegmentRule(min_length=3)
NUM_GROUPS, FORK = 5, 99
PHRASES = ([1, 2, 3], [4, 5, 6, 7], [8, 9, 10], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13])


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What must stand beside one entropy."""

    token_id: int
    logprob: float
    advantage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """One way from the sampler to the micro-batches; `seed` orders whatever has no order of its own."""

    seed: int
    num_rollout_workers: int = 1
    num_shaping_workers: int = 1
    num_ranks: int = 1
    mini_batch_groups: int = 0
    num_epochs: int = 1
    micro_batch_tokens: int = 10_000
    layout: Layout = "padded"


ARRANGEMENTS = [
    Arrangement(seed=1, layout="packed"),
    Arrangement(seed=2, num_rollout_workers=3, num_shaping_workers=2, num_ranks=2, micro_batch_tokens=200),
    Arrangement(seed=3, num_shaping_workers=5, num_ranks=3, mini_batch_groups=2, micro_batch_tokens=90),
    Arrangement(seed=4, num_rollout_workers=2, mini_batch_groups=1, micro_batch_tokens=1, layout="packed"),
    Arrangement(seed=5, num_rollout_workers=4, num_ranks=4, mini_batch_groups=3, num_epochs=2, micro_batch_tokens=150),
]


class ReplayEngine:
    """Answers the request of each seed with the rollouts recorded for it."""

    def __init__(self, recorded: dict[int, list[Rollout]]) -> None:
        self._recorded = recorded

    async def start(self) -> EngineInfo:
        return EngineInfo(
            vocab_size=VOCAB_SIZE,
            max_model_tokens=1000,
            max_logprob_error=0.0,
            max_entropy_error=0.0,
            num_workers=1,
            description="replay",
        )

    async def generate(self, *, seed: int, **request: object) -> tuple[Rollout, ...]:
        assert len(self._recorded[seed]) == request["num_rollouts"]
        return tuple(self._recorded[seed])


def make_groups() -> list[list[Rollout]]:
    """Rollouts of each group, right ones among them; phrases of low entropy between forks of high entropy."""
    rng = random.Random(0)
    num_tokens, groups = 0, []
    for index in range(NUM_GROUPS):
        rollouts = []
        for _ in range(4 + index):
            phrases = rng.choices(PHRASES, k=rng.randrange(0, 8))
            ids = [token for phrase in phrases for token in (*phrase, FORK)]
            numbers = num_tokens + np.arange(len(ids))
            num_tokens += len(ids)
            rollout = make_rollout(
                ids,
                entropies=(np.where(np.array(ids) == FORK, 3.0, 0.0) + 1e-5 * numbers).tolist(),
                text=rng.choice([r"\boxed{5}", r"\boxed{6}"]),
                hint_ids=[50, 51, 52][: rng.randrange(4)],
            )
            rollouts.append(replace(rollout, behavior_logprobs=(-1e-4 * (1 + numbers)).astype(np.float32)))
        groups.append(rollouts)
    return groups


def expected_tokens(groups: list[list[Rollout]]) -> dict[float, Token]:
    """By entropy: GRPO advantages by their formula, times the multipliers of the brute-force rule."""
    table = {}
    for rollouts in groups:
        correct = [rollout.response_text == r"\boxed{5}" for rollout in rollouts]
        rewards = np.array(correct, np.float64)
        base = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
        responses, entropies = [r.response_ids.tolist() for r in rollouts], [r.entropies.tolist() for r in rollouts]
        rows = oracle_group(responses, entropies, correct, min_length=RULE.min_length).multipliers()
        for rollout, row, advantage in zip(rollouts, rows, base.astype(np.float32), strict=True):
            columns = (rollout.response_ids, rollout.behavior_logprobs, row * advantage, rollout.entropies)
            for token_id, logprob, shaped, nats in zip(*(column.tolist() for column in columns), strict=True):
                table[nats] = Token(token_id=token_id, logprob=logprob, advantage=shaped)
    return table


async def sample(groups: list[list[Rollout]], way: Arrangement, rng: random.Random) -> list[tuple[RolloutGroup, ...]]:
    """Rounds of every group: its rollouts shuffled and dealt to the rollout workers."""
    finished = []
    for index, rollouts in enumerate(groups):
        shuffled = rng.sample(rollouts, len(rollouts))
        shares = [shuffled[start :: way.num_rollout_workers] for start in range(way.num_rollout_workers)]
        rounds = []
        for round_index, share in enumerate(shares):
            worker = RolloutWorker(ReplayEngine({index: share}))
            await worker.start()
            request = GroupRequest(
                group_id=f"g{index}",
                prompt=make_prompt(prompt_id=f"p{index}"),
                prompt_ids=np.arange(1 + index, dtype=np.int32),
                hint_ids=np.zeros(0, np.int32),
                round_index=round_index,
                num_rollouts=len(share),
                sampling=Sampling(),
                seed=index,
            )
            _, group = await worker.generate(request)
            rounds.append(pickle.loads(pickle.dumps(group)))
        finished.append(tuple(rounds))
    return finished


def train_tokens(
    batch: list[tuple[RolloutGroup, ...]], way: Arrangement, rng: random.Random
) -> list[tuple[float, Token]]:
    """Every trained token of every micro-batch of every rank, with the entropy beside it."""
    workers = [ShapingRole(ShapingPipeline(ShapingConfig(segments=RULE))) for _ in range(way.num_shaping_workers)]
    shaped = [rng.choice(workers).shape(rounds) for rounds in rng.sample(batch, len(batch))]
    samples: list[tuple[TrainingSample, ...]] = pickle.loads(pickle.dumps([each for _, each in shaped]))
    plan = plan_batch(
        [replace(size, group_index=index) for index, (summary, _) in enumerate(shaped) for size in summary.samples],
        num_ranks=way.num_ranks,
        mini_batch_groups=way.mini_batch_groups,
        num_epochs=way.num_epochs,
        micro_batch_tokens=way.micro_batch_tokens,
        layout=way.layout,
        seed=way.seed,
    )
    tokens = []
    for rank in range(way.num_ranks):
        for mini_batch in rank_mini_batches(plan, rank, lambda size: samples[size.group_index][size.sample_index]):
            for members in mini_batch.micro_batches:
                batch_tokens = collate(members, way.layout)
                columns = (
                    batch_tokens.sampler_entropies,
                    batch_tokens.targets,
                    batch_tokens.behavior_logprobs,
                    batch_tokens.advantages,
                )
                for nats, token_id, logprob, advantage in zip(
                    *(column[batch_tokens.loss_mask].tolist() for column in columns), strict=True
                ):
                    tokens.append((nats, Token(token_id=token_id, logprob=logprob, advantage=advantage)))
    return tokens


@pytest.mark.parametrize("way", ARRANGEMENTS)
async def test_every_token_keeps_its_entropy_and_its_advantage(way: Arrangement) -> None:
    groups, rng = make_groups(), random.Random(way.seed)
    expected = expected_tokens(groups)
    assert len(expected) == sum(rollout.num_tokens for rollouts in groups for rollout in rollouts)
    found = train_tokens(await sample(groups, way, rng), way, rng)
    assert len(found) == way.num_epochs * len(expected)
    assert {nats for nats, _ in found} == expected.keys()
    wrong = [(nats, token, expected[nats]) for nats, token in found if token != expected[nats]]
    assert wrong == []


def test_entropies_of_the_neighbours_would_give_other_advantages() -> None:
    # What makes the law above worth its name: shifted by one token, a third of the advantages or more is another.
    groups = make_groups()
    shifted = [
        [replace(rollout, entropies=np.roll(rollout.entropies, 1)) for rollout in rollouts] for rollouts in groups
    ]
    right, wrong = ([token.advantage for token in expected_tokens(each).values()] for each in (groups, shifted))
    by_token = zip(right, wrong, strict=True)
    assert len({round(advantage, 4) for advantage in right}) > 10
    assert sum(a != b for a, b in by_token) > len(right) / 3
