"""Everything that services send between processes pickles and arrives as what it was."""

import pickle
from typing import Any

import pytest
from recipe_builders import make_recipe
from report_builders import make_description, make_evaluation, make_event, make_step, make_worker

from learner.batch_plan import SampleSize, plan_batch
from services.ports import RoundOutcome, ShapedHandle, ShapedSummary
from services.ray_ports import groups_of_rank
from services.reports import Failure, Intent, IntentKind
from shaping.groups import Drop, DropReason
from shaping.metrics import Max, Mean, Sum

SIZES = tuple(
    SampleSize(group_index=group, sample_index=sample, num_tokens=8 + group, num_valid_tokens=4)
    for group in range(3)
    for sample in range(2)
)
PLAN = plan_batch(SIZES, num_ranks=2, mini_batch_groups=0, num_epochs=1, micro_batch_tokens=16, layout="packed", seed=0)
SUMMARY = ShapedSummary(
    group_id="g1",
    samples=(),
    drop=Drop(reason=DropReason.NO_SIGNAL, detail="every advantage of the group is 0"),
    metrics={"mean": Mean(1.0, 2.0), "sum": Sum(3.0), "max": Max(4.0)},
    num_correct=0,
    num_scored=8,
    min_policy_version=3,
)
RECORDS: tuple[Any, ...] = (
    make_recipe(),
    PLAN,
    SUMMARY,
    ShapedHandle(ref="an opaque reference", summary=SUMMARY),
    RoundOutcome(rewards=(0.0, 1.0), num_correct=1),
    make_step(1),
    make_evaluation(),
    make_event("failed"),
    make_worker("rollout-0"),
    make_description(),
    Failure(role="learner", cause="a cause", group_id="g1"),
    Intent(generation=2, kind=IntentKind.PAUSE, reason="a reason"),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_arrives_as_it_was(record: Any) -> None:
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_rank_is_sent_exactly_the_groups_that_its_part_names() -> None:
    for rank in range(2):
        named = {
            size.group_index
            for mini_batch in PLAN.mini_batches
            for micro_batch in mini_batch.micro_batches[rank]
            for size in micro_batch
        }
        assert set(groups_of_rank(PLAN, rank)) == named
