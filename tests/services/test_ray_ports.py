"""The border to Ray, without a Ray: which samples a rank is sent, and how a remote failure is told."""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from learner.batch_plan import SampleSize, plan_batch
from services.ray_ports import RayRollout, first_remote_cause, groups_of_rank, result
from shaping.errors import DataError, EngineRefused, GroupLost, RoleDied, RunFailed


def wrapped(cause: BaseException, times: int = 1) -> BaseException:
    for _ in range(times):
        cause = RayTaskError("generate", f"Traceback\n{type(cause).__name__}", cause)
    return cause


async def failing(error: BaseException) -> None:
    raise error


def ask(error: BaseException) -> Coroutine[Any, Any, Any]:
    return result(failing(error), "rollout", "g1")


def test_ranks_together_are_sent_every_group_and_each_only_its_own() -> None:
    sizes = [
        SampleSize(group_index=group, sample_index=index, num_tokens=10 + group, num_valid_tokens=5)
        for group in range(6)
        for index in range(3)
    ]
    plan = plan_batch(
        sizes, num_ranks=2, mini_batch_groups=2, num_epochs=2, micro_batch_tokens=32, layout="packed", seed=0
    )
    sent = [groups_of_rank(plan, rank) for rank in range(2)]
    assert set(sent[0]) | set(sent[1]) == set(range(6))
    for rank, groups in enumerate(sent):
        assert list(groups) == sorted(set(groups))
        named = {size.group_index for each in plan.mini_batches for mb in each.micro_batches[rank] for size in mb}
        assert set(groups) == named


async def test_an_answer_is_the_answer() -> None:
    async def five() -> int:
        return 5

    assert await result(five(), "rollout") == 5


@pytest.mark.parametrize(
    "cause", [RunFailed(role="learner", cause="nan"), EngineRefused("no"), DataError("no model")], ids=repr
)
@pytest.mark.parametrize("times", [1, 2])
async def test_an_error_of_ours_comes_out_as_it_was(cause: Exception, times: int) -> None:
    error = wrapped(cause, times)
    assert first_remote_cause(error) is cause
    with pytest.raises(type(cause)) as caught:
        await ask(error)
    assert caught.value is cause


async def test_any_other_error_names_role_group_and_the_first_line_of_its_cause() -> None:
    with pytest.raises(RunFailed) as caught:
        await ask(wrapped(ValueError("\n  bad shape\nmore"), 2))
    assert (caught.value.role, caught.value.group_id, caught.value.cause) == ("rollout", "g1", "ValueError: bad shape")
    with pytest.raises(RunFailed, match="ValueError: no message"):
        await ask(wrapped(ValueError()))


@pytest.mark.parametrize(
    "error",
    [RayActorError(), OutOfMemoryError("too much memory"), LocalRayletDiedError(), NodeDiedError("gone")],
    ids=lambda error: type(error).__name__,
)
async def test_a_dead_process_is_told_as_one_whoever_ended_it(error: Exception) -> None:
    with pytest.raises(RoleDied, match=r"rollout \(group g1\): its process ended: "):
        await ask(error)


class Answers:
    """A method of an actor that answers at once."""

    async def remote(self) -> int:
        return 3


async def test_an_engine_that_is_not_started_is_not_waited_for() -> None:
    port = RayRollout(lambda: SimpleNamespace(start=Answers(), ping=Answers(), resume=Answers()), "rollout-0")
    for call in (port.ping, port.resume):
        with pytest.raises(RoleDied, match="rollout-0 is being started"):
            await call()
    await port.start()
    assert await port.ping() == 3


@pytest.mark.parametrize("is_argument", [False, True])
async def test_arrays_that_went_with_a_node_are_told_as_a_lost_group(is_argument: bool) -> None:
    lost = ObjectLostError("0" * 56, None, "driver")
    with pytest.raises(GroupLost, match=r"rollout \(group g1\): its arrays are lost: "):
        await ask(wrapped(lost) if is_argument else lost)
