"""A weight sync: every engine gets the version or keeps its own, and none is left paused."""

import asyncio

import pytest
from fake_roles import LAYOUT, FakeLearner, FakeRollout, settle

from services.weight_sync import SyncPhase, WeightSync
from shaping.errors import EngineRefused, RecordError, RunFailed
from shaping.training import WeightChannel, WeightManifest

SOON = 0.02
"""Seconds of a deadline that has to be missed."""


def make_sync(
    num_engines: int = 2, *, deadline_seconds: float = 20.0, workers_per_engine: int = 1
) -> tuple[WeightSync, FakeLearner, list[FakeRollout]]:
    learner = FakeLearner()
    engines = [FakeRollout(f"rollout-{index}") for index in range(num_engines)]
    sync = WeightSync(
        learner=learner,
        rollout=engines,
        workers_per_engine=workers_per_engine,
        deadline_seconds=deadline_seconds,
    )
    return sync, learner, engines


async def connected(
    num_engines: int = 2, *, deadline_seconds: float = 20.0
) -> tuple[WeightSync, FakeLearner, list[FakeRollout]]:
    sync, learner, engines = make_sync(num_engines, deadline_seconds=deadline_seconds)
    await sync.connect()
    for each in (learner, *engines):
        each.calls.clear()
    return sync, learner, engines


def is_at_rest(engine: FakeRollout) -> bool:
    return not engine.is_paused and not engine.is_staged


# -- the channel


async def test_every_worker_of_every_engine_has_a_rank_of_its_own() -> None:
    joined: dict[str, WeightChannel] = {}

    class Engine(FakeRollout):
        async def connect_weights(self, channel: WeightChannel) -> None:
            joined[self.worker_id] = channel

    engines = [Engine(f"rollout-{index}") for index in range(3)]
    sync = WeightSync(learner=FakeLearner(), rollout=engines, workers_per_engine=2, deadline_seconds=20.0)
    assert await sync.connect() == LAYOUT
    # Rank 0 sends; three engines of two workers each take 1-2, 3-4 and 5-6.
    assert [joined[each.worker_id].first_rank for each in engines] == [1, 3, 5]
    assert {each.world_size for each in joined.values()} == {7}


async def test_an_engine_that_does_not_join_is_waited_for_no_longer_than_the_deadline() -> None:
    sync, _, engines = make_sync(deadline_seconds=SOON)
    engines[1].script["connect_weights"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match=r"rollout: joining the weight channel took longer than 0\.02 s") as caught:
        await sync.connect()
    assert "(run.deadlines.weights_seconds)" in caught.value.cause


async def test_an_engine_that_refuses_the_channel_fails_the_run() -> None:
    sync, _, engines = make_sync()
    engines[0].script["connect_weights"] = [EngineRefused("no such backend")]
    with pytest.raises(RunFailed, match="rollout: no such backend"):
        await sync.connect()


async def test_weights_are_not_published_before_the_channel_is_open() -> None:
    sync, _, _ = make_sync()
    with pytest.raises(RunFailed, match="before the channel was connected"):
        await sync.publish(1)


# -- a transaction


async def test_a_published_version_is_served_by_every_engine() -> None:
    sync, learner, engines = await connected()
    manifest = await sync.publish(1)
    assert manifest.policy_version == 1
    assert [each.policy_version for each in engines] == [1, 1]
    assert all(is_at_rest(each) for each in engines)
    assert learner.calls == ["send_weights"]
    assert [each.calls for each in engines] == [["stage_weights", "commit_weights"]] * 2
    assert (sync.phase, sync.num_aborts) == (SyncPhase.IDLE, 0)
    await sync.publish(2)
    assert [each.policy_version for each in engines] == [2, 2]


async def test_nothing_is_committed_before_everything_is_staged() -> None:
    sync, _, engines = await connected()
    held = asyncio.Event()
    engines[1].script["stage_weights"] = [held]
    publishing = asyncio.create_task(sync.publish(1))
    await settle()
    # Generation goes on while weights travel: nobody is paused yet.
    assert sync.phase is SyncPhase.TRANSFER
    assert not any(each.is_paused for each in engines)
    assert "commit_weights" not in engines[0].calls
    held.set()
    await publishing
    assert [each.policy_version for each in engines] == [1, 1]


@pytest.mark.parametrize("method", ["stage_weights", "commit_weights"])
async def test_a_version_refused_once_is_sent_again(method: str) -> None:
    sync, learner, engines = await connected()
    engines[1].script[method] = [EngineRefused("checksum differs")]
    await sync.publish(1)
    assert [each.policy_version for each in engines] == [1, 1]
    assert all(is_at_rest(each) for each in engines)
    assert learner.calls == ["send_weights"] * 2
    assert (sync.phase, sync.num_aborts) == (SyncPhase.IDLE, 1)


async def test_after_a_partial_commit_only_the_engines_behind_commit_again() -> None:
    sync, _, engines = await connected(3)
    engines[1].script["commit_weights"] = [EngineRefused("checksum differs")]
    await sync.publish(1)
    assert [each.calls.count("commit_weights") for each in engines] == [1, 2, 1]
    # All three receive the second transfer, since it is one broadcast; those ahead throw it away.
    assert [each.calls.count("stage_weights") for each in engines] == [2, 2, 2]
    assert all(is_at_rest(each) and each.policy_version == 1 for each in engines)


@pytest.mark.parametrize("method", ["stage_weights", "commit_weights"])
async def test_a_version_refused_twice_fails_the_run_and_the_old_one_is_served(method: str) -> None:
    sync, _, engines = await connected()
    for each in engines:
        each.script[method] = [EngineRefused("checksum differs"), EngineRefused("checksum differs")]
    with pytest.raises(RunFailed) as caught:
        await sync.publish(1)
    assert caught.value.role == "rollout"
    assert caught.value.cause == "weights of version 1 were refused 2 times: checksum differs"
    assert all(is_at_rest(each) and each.policy_version == 0 for each in engines)
    assert (sync.phase, sync.num_aborts) == (SyncPhase.IDLE, 2)


async def test_a_new_attempt_waits_until_the_old_one_has_left_the_channel() -> None:
    # Were the second broadcast to begin while the first one is still on its way, engines would mix their buckets.
    sync, learner, engines = await connected()
    sending = asyncio.Event()
    learner.script["send_weights"] = [sending]
    engines[0].script["stage_weights"] = [EngineRefused("no room")]
    publishing = asyncio.create_task(sync.publish(1))
    await settle()
    assert learner.calls == ["send_weights"] and "discard_staged_weights" not in engines[1].calls
    sending.set()
    await publishing
    assert learner.calls == ["send_weights"] * 2
    assert [each.policy_version for each in engines] == [1, 1]


@pytest.mark.parametrize(
    ("method", "role", "what"),
    [("stage_weights", "learner", "transfer of version 1"), ("commit_weights", "rollout", "commit of version 1")],
)
async def test_a_hanging_engine_ends_at_the_deadline_and_the_others_go_on(method: str, role: str, what: str) -> None:
    sync, _, engines = await connected(deadline_seconds=SOON)
    never = asyncio.Event()
    # The first engine answers nothing at all any more, not even the abort.
    for each in (method, "discard_staged_weights", "resume"):
        engines[0].script[each] = [never]
    with pytest.raises(RunFailed) as caught:
        await sync.publish(1)
    assert (caught.value.role, caught.value.cause) == (
        role,
        f"{what} took longer than 0.02 s (run.deadlines.weights_seconds)",
    )
    assert is_at_rest(engines[1])
    assert sync.phase is SyncPhase.IDLE


async def test_a_hanging_learner_leaves_every_engine_as_it_was() -> None:
    sync, learner, engines = await connected(deadline_seconds=SOON)
    learner.script["send_weights"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match="learner: transfer of version 1 took longer"):
        await sync.publish(1)
    assert all(is_at_rest(each) and each.policy_version == 0 for each in engines)


async def test_a_dead_learner_is_the_cause_and_is_not_asked_again() -> None:
    sync, learner, engines = await connected()
    learner.script["send_weights"] = [RunFailed(role="learner", cause="its process ended")]
    engines[0].script["stage_weights"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match="learner: its process ended"):
        await sync.publish(1)
    assert learner.calls == ["send_weights"]
    assert all(is_at_rest(each) for each in engines)


async def test_a_broken_manifest_fails_the_run_by_name() -> None:
    sync, learner, _ = await connected()
    learner.script["send_weights"] = [RecordError("checksums must have 1 entries, got 0 (WeightManifest)")]
    with pytest.raises(RunFailed, match="learner: transfer of version 1: checksums must have 1 entries"):
        await sync.publish(1)


async def test_a_cancelled_sync_leaves_no_engine_paused() -> None:
    sync, _, engines = await connected()
    engines[1].script["commit_weights"] = [asyncio.Event()]
    publishing = asyncio.create_task(sync.publish(1))
    await settle()
    assert engines[1].is_paused
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert all(is_at_rest(each) for each in engines)
    assert sync.phase is SyncPhase.IDLE


async def test_the_manifest_is_the_learners() -> None:
    sync, _, _ = await connected(1)
    assert await sync.publish(1) == WeightManifest(policy_version=1, layout=LAYOUT, checksums=("0",))
