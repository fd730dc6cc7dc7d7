"""A weight sync that meets failures: every engine gets the version, or is left out by name; none is left paused."""

import asyncio
import re
import time

import pytest
from fake_roles import FakeLearner, FakeRollout, settle
from sync_builders import CANARY, DEADLINE, LATE, MANIFEST, hang, is_at_rest, make_sync, versions

from services.sync_phases import LeftOut, SyncPhase
from services.virtual_time import run_virtual, virtual_clock
from services.weight_sync import WeightSync
from shaping.errors import ChannelBroken, EngineRefused, RecordError, RoleDied, RunFailed
from shaping.training import WeightChannel, WeightLayout, WeightManifest

# -- engines that fail


@pytest.mark.parametrize("method", ["connect_weights", "stage_weights", "verify_weights", "commit_weights"])
async def test_a_version_refused_once_is_sent_again(method: str) -> None:
    sync, learner, engines = make_sync()
    engines[1].script[method] = [EngineRefused("bucket 3 is wrong")]
    result = await sync.publish(1, engines)
    assert (result.live, result.left_out) == (("rollout-0", "rollout-1"), ())
    (abort,) = result.aborts
    assert re.fullmatch(r"\w+ of version 1: rollout-1: bucket 3 is wrong", abort)
    assert versions(engines) == [1, 1]
    assert all(is_at_rest(each) for each in engines)
    assert learner.calls.count("send_weights") == (1 if method == "connect_weights" else 2)
    # What verified and was refused leaves the channel as it was; what broke off half-way does not.
    assert learner.calls.count("open_channel") == (1 if method == "verify_weights" else 2)


@pytest.mark.parametrize(
    ("method", "phase", "num_sent"),
    [
        ("connect_weights", SyncPhase.PREPARE, 1),
        ("stage_weights", SyncPhase.TRANSFER, 2),
        ("verify_weights", SyncPhase.VERIFY, 2),
        ("commit_weights", SyncPhase.COMMIT, 2),
    ],
)
async def test_an_engine_that_refuses_twice_is_left_out_and_the_others_go_on(
    method: str, phase: SyncPhase, num_sent: int
) -> None:
    """Where the others have all that they need, they do not receive it a third time."""
    sync, learner, engines = make_sync(3, canary=CANARY)
    engines[1].script[method] = [EngineRefused("bucket 3 must have checksum x")] * 2
    result = await sync.publish(1, engines)
    assert (result.live, result.manifest) == (("rollout-0", "rollout-2"), MANIFEST)
    assert result.left_out == (LeftOut(worker_id="rollout-1", phase=phase, cause="bucket 3 must have checksum x"),)
    assert versions(engines) == [1, 0, 1]
    assert all(is_at_rest(each) for each in engines)
    assert learner.calls.count("send_weights") == num_sent
    assert result.canary_difference_nats == 0.0
    assert result.num_mismatches == (2 if method == "verify_weights" else 0)


async def test_a_channel_that_lost_an_end_is_not_used_again() -> None:
    sync, learner, engines = make_sync(3)
    await sync.publish(1, engines)
    engines[1].script["ping"] = [RoleDied(role="rollout", cause="its process ended")]
    result = await sync.publish(2, engines)
    assert (result.live, result.aborts) == (("rollout-0", "rollout-2"), ())
    assert learner.calls.count("open_channel") == 2
    # The one that is left is used as it is.
    await sync.publish(3, [engines[0], engines[2]])
    assert learner.calls.count("open_channel") == 2


async def test_nothing_is_committed_where_one_of_two_has_other_bytes() -> None:
    sync, _, engines = make_sync()
    engines[1].script["verify_weights"] = [EngineRefused("checksum differs")]
    gate = asyncio.Event()
    engines[0].script["discard_staged_weights"] = [gate]
    publishing = asyncio.create_task(sync.publish(1, engines))
    await settle()
    assert sync.phase is SyncPhase.ABORT
    assert "commit_weights" not in engines[0].calls
    gate.set()
    await publishing


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        ("ping", SyncPhase.PROPOSE),
        ("connect_weights", SyncPhase.PREPARE),
        ("stage_weights", SyncPhase.TRANSFER),
        ("verify_weights", SyncPhase.VERIFY),
        ("commit_weights", SyncPhase.COMMIT),
        ("canary", SyncPhase.CANARY),
    ],
)
async def test_an_engine_that_dies_in_any_phase_is_left_out_by_name(method: str, phase: SyncPhase) -> None:
    sync, _, engines = make_sync(canary=CANARY)
    engines[0].script[method] = [RoleDied(role="rollout", cause="its process ended")]
    result = await sync.publish(1, engines)
    assert result.left_out == (LeftOut(worker_id="rollout-0", phase=phase, cause="its process ended"),)
    assert result.live == ("rollout-1",)
    assert all(is_at_rest(each) for each in engines)
    assert result.canary_difference_nats == 0.0
    assert (await sync.publish(2, engines[1:])).live == ("rollout-1",)


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        ("ping", SyncPhase.PROPOSE),
        ("connect_weights", SyncPhase.PREPARE),
        ("stage_weights", SyncPhase.TRANSFER),
        ("verify_weights", SyncPhase.VERIFY),
        ("commit_weights", SyncPhase.COMMIT),
        ("canary", SyncPhase.CANARY),
    ],
)
def test_an_engine_that_hangs_in_any_phase_is_left_out_at_the_deadline(method: str, phase: SyncPhase) -> None:
    async def scenario() -> float:
        sync, _, engines = make_sync(canary=CANARY)
        hang(engines[0], method)
        result = await sync.publish(1, engines)
        assert result.left_out == (LeftOut(worker_id="rollout-0", phase=phase, cause=LATE.format(phase=phase.value)),)
        assert result.live == ("rollout-1",)
        assert is_at_rest(engines[1])
        assert engines[1].policy_version == 1
        return virtual_clock()

    # The phase, and the abort of an engine that does not answer it either.
    assert run_virtual(scenario()) == pytest.approx(2 * DEADLINE)


async def test_nothing_is_sent_through_a_channel_that_one_end_has_left_already() -> None:
    sync, learner, engines = make_sync()
    engines[0].script["connect_weights"] = [RoleDied(role="rollout", cause="its process ended")]
    assert (await sync.publish(1, engines)).live == ("rollout-1",)
    assert [learner.calls.count(each) for each in ("open_channel", "send_weights")] == [2, 1]


@pytest.mark.parametrize("method", ["connect_weights", "stage_weights"])
async def test_engines_that_met_a_channel_broken_by_another_are_not_blamed(method: str) -> None:
    """Twice in a row: each time the channel breaks under all, and one engine is dead."""
    sync, learner, engines = make_sync(4)
    own = "connect_weights" if method == "connect_weights" else "send_weights"
    for dead in (0, 1):
        learner.script[own].append(ChannelBroken("a receiver has left"))
        for index, each in enumerate(engines[dead:], start=dead):
            failure = RoleDied(role="rollout", cause="gone") if index == dead else ChannelBroken("closed by peer")
            each.script[method].append(failure)
    result = await sync.publish(1, engines)
    assert [each.worker_id for each in result.left_out] == ["rollout-0", "rollout-1"]
    assert (result.live, len(result.aborts)) == (("rollout-2", "rollout-3"), 2)


async def test_a_channel_broken_by_nobody_known_is_opened_anew() -> None:
    sync, learner, engines = make_sync()
    learner.script["send_weights"] = [ChannelBroken("bucket 2 of version 1 was not received")]
    engines[1].script["stage_weights"] = [ChannelBroken("bucket 2 of version 1 did not arrive")]
    result = await sync.publish(1, engines)
    assert (result.live, len(result.aborts)) == (("rollout-0", "rollout-1"), 1)
    assert learner.calls.count("open_channel") == 2


async def test_engines_that_a_channel_breaks_under_twice_get_one_each_and_only_the_faulty_one_is_left_out() -> None:
    """As with an engine so slow that every end of the channel gives up first."""

    members: list[str] = []

    class Learner(FakeLearner):
        async def open_channel(self, num_receivers: int) -> WeightChannel:
            members.clear()
            return await super().open_channel(num_receivers)

        async def send_weights(self, policy_version: int) -> WeightManifest:
            manifest = await super().send_weights(policy_version)
            if "rollout-1" in members:
                raise ChannelBroken("bucket 1 of version 1 was not received: timed out")
            return manifest

    class Engine(FakeRollout):
        async def connect_weights(self, channel: WeightChannel) -> None:
            await super().connect_weights(channel)
            members.append(self.worker_id)

        async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
            await super().stage_weights(layout, policy_version)
            if "rollout-1" in members:
                raise ChannelBroken("bucket 1 of version 1 did not arrive: timed out")

    engines = [Engine(f"rollout-{index}") for index in range(3)]
    learner = Learner()
    sync = WeightSync(learner=learner, workers_per_engine=1, deadline_seconds=DEADLINE, clock=time.monotonic)
    result = await sync.publish(1, engines)
    assert result.live == ("rollout-0", "rollout-2")
    cause = "bucket 1 of version 1 did not arrive: timed out"
    assert result.left_out == (LeftOut(worker_id="rollout-1", phase=SyncPhase.TRANSFER, cause=cause),)
    assert versions(engines) == [1, 0, 1]
    # Twice together, rollout-0 alone, rollout-1 alone twice, rollout-2 alone.
    assert learner.calls.count("send_weights") == 6
    assert len(result.aborts) == 4
    assert (await sync.publish(2, [engines[0], engines[2]])).live == ("rollout-0", "rollout-2")


async def test_a_learner_that_breaks_with_three_engines_each_alone_is_the_cause() -> None:
    sync, learner, engines = make_sync(8)
    learner.script["send_weights"] = [ChannelBroken("no route")] * 99
    for each in engines:
        each.script["stage_weights"] = [ChannelBroken("closed by peer")] * 99
    with pytest.raises(RunFailed, match="learner: transfer of version 1: no route"):
        await sync.publish(1, engines)
    # Twice together, then twice with each of three engines.
    assert learner.calls.count("send_weights") == 8


async def test_without_an_engine_nobody_is_asked() -> None:
    sync, learner, _ = make_sync()
    result = await sync.publish(1, [])
    assert (result.live, result.left_out, learner.calls) == ((), (), [])


async def test_when_no_engine_is_left_the_result_says_so_and_the_next_sync_works() -> None:
    sync, _, engines = make_sync(canary=CANARY)
    for each in engines:
        each.script["stage_weights"] = [RoleDied(role="rollout", cause="its process ended")]
    result = await sync.publish(1, engines)
    assert (result.live, result.manifest, result.canary_difference_nats) == ((), None, None)
    assert [each.worker_id for each in result.left_out] == ["rollout-0", "rollout-1"]
    for each in engines:
        await each.restart()
    assert (await sync.publish(1, engines)).live == ("rollout-0", "rollout-1")


async def test_after_a_partial_commit_only_the_engines_behind_are_sent_the_version_again() -> None:
    sync, _, engines = make_sync(3)
    engines[1].script["commit_weights"] = [EngineRefused("checksum differs")]
    assert (await sync.publish(1, engines)).live == ("rollout-0", "rollout-1", "rollout-2")
    assert [each.calls.count("stage_weights") for each in engines] == [1, 2, 1]
    await sync.publish(2, engines)
    assert versions(engines) == [2, 2, 2]


# -- a learner that fails


def test_a_learner_that_hangs_fails_the_run_and_leaves_every_engine_as_it_was() -> None:
    async def scenario() -> None:
        sync, learner, engines = make_sync()
        learner.script["send_weights"] = [asyncio.Event()]
        hang(engines[1], "stage_weights")
        with pytest.raises(RunFailed) as caught:
            await sync.publish(1, engines)
        late = LATE.format(phase="transfer")
        assert str(caught.value) == f"learner: {late}; no answer either from rollout-1"
        assert is_at_rest(engines[0]) and versions(engines) == [0, 0]
        assert sync.phase is SyncPhase.IDLE

    run_virtual(scenario())


@pytest.mark.parametrize("method", ["ping", "weight_layout", "open_channel", "connect_weights", "send_weights"])
def test_a_dead_learner_is_the_cause_at_once(method: str) -> None:
    async def scenario() -> float:
        sync, learner, engines = make_sync()
        learner.script[method] = [RoleDied(role="learner", cause="its process ended")]
        for each in ("ping", "connect_weights", "stage_weights"):
            engines[0].script[each] = [asyncio.Event()] if each[:4] == method[:4] or method == "send_weights" else []
        engines[0].script["connect_weights"] = [asyncio.Event()] if method == "connect_weights" else []
        engines[0].script["ping"] = [asyncio.Event()] if method == "ping" else []
        with pytest.raises(RoleDied, match="learner: its process ended"):
            await sync.publish(1, engines)
        assert all(is_at_rest(each) for each in engines)
        return virtual_clock()

    assert run_virtual(scenario()) == 0.0


async def test_a_learner_whose_end_of_the_channel_breaks_alone_again_and_again_fails_the_run() -> None:
    sync, learner, engines = make_sync()
    learner.script["send_weights"] = [ChannelBroken("no route to any receiver")] * 3
    with pytest.raises(RunFailed, match="learner: transfer of version 1: no route to any receiver"):
        await sync.publish(1, engines)
    assert learner.calls.count("send_weights") == 3
    assert all(is_at_rest(each) for each in engines)


async def test_a_broken_manifest_fails_the_run_by_name() -> None:
    sync, learner, engines = make_sync()
    learner.script["send_weights"] = [RecordError("checksums must have 1 entries, got 0 (WeightManifest)")]
    with pytest.raises(RunFailed, match="learner: transfer of version 1: checksums must have 1 entries"):
        await sync.publish(1, engines)


@pytest.mark.parametrize("method", ["ping", "stage_weights", "verify_weights", "commit_weights", "canary"])
async def test_a_sync_cancelled_in_any_phase_leaves_no_engine_paused_and_the_next_one_works(method: str) -> None:
    sync, _, engines = make_sync(canary=CANARY)
    engines[1].script[method] = [asyncio.Event()]
    publishing = asyncio.create_task(sync.publish(1, engines))
    await settle()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert all(is_at_rest(each) for each in engines)
    assert sync.phase is SyncPhase.IDLE
    assert (await sync.publish(2, engines)).live == ("rollout-0", "rollout-1")


async def test_a_sync_cancelled_twice_still_un_pauses() -> None:
    sync, _, engines = make_sync()
    engines[1].script["commit_weights"] = [asyncio.Event()]
    gate = asyncio.Event()
    engines[0].script["resume"] = [gate]
    publishing = asyncio.create_task(sync.publish(1, engines))
    await settle()
    publishing.cancel()
    await settle()
    publishing.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert all(is_at_rest(each) for each in engines)
    assert sync.phase is SyncPhase.IDLE
