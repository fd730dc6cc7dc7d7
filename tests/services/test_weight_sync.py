"""A weight sync: every engine gets the version, or keeps its own and is left out by name; none is left paused."""

import asyncio
import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
from fake_roles import LAYOUT, FakeLearner, FakeRollout, settle

from services.canary import canary_request
from services.sync_phases import LeftOut, SyncPhase
from services.virtual_time import run_virtual, virtual_clock
from services.weight_sync import SyncResult, WeightSync
from shaping.errors import ChannelBroken, EngineRefused, RecordError, RoleDied, RunFailed
from shaping.records import EntropySource, GroupRequest
from shaping.training import CanaryAnswer, WeightChannel, WeightLayout, WeightManifest

DEADLINE = 20.0
LATE = "{phase} of version 1 took longer than 20 s (run.deadlines.weights_seconds)"
MANIFEST = WeightManifest(policy_version=1, layout=LAYOUT, checksums=("0",))
CANARY = canary_request(EntropySource.RAW)


def make_sync(
    num_engines: int = 2, *, workers_per_engine: int = 1, canary: GroupRequest | None = None
) -> tuple[WeightSync, FakeLearner, list[FakeRollout]]:
    learner = FakeLearner()
    engines = [FakeRollout(f"rollout-{index}") for index in range(num_engines)]
    sync = WeightSync(
        learner=learner,
        workers_per_engine=workers_per_engine,
        deadline_seconds=DEADLINE,
        clock=time.monotonic,
        canary=canary,
    )
    return sync, learner, engines


def is_at_rest(engine: FakeRollout) -> bool:
    return not engine.is_paused and not engine.is_staged


def versions(engines: Sequence[FakeRollout]) -> list[int]:
    return [each.policy_version for each in engines]


def hang(engine: FakeRollout, *methods: str) -> None:
    """The engine answers none of these any more, and not even the abort."""
    for each in (*methods, "discard_staged_weights", "resume"):
        engine.script[each] = [asyncio.Event()] * 9


# -- a sync that works


async def test_a_published_version_is_served_by_every_engine() -> None:
    sync, learner, engines = make_sync()
    result = await sync.publish(1, engines)
    assert (result.manifest, result.live, result.left_out) == (MANIFEST, ("rollout-0", "rollout-1"), ())
    assert versions(engines) == [1, 1]
    assert learner.calls == ["ping", "weight_layout", "open_channel", "connect_weights", "send_weights"]
    calls = ["ping", "connect_weights", "stage_weights", "verify_weights", "commit_weights"]
    assert [each.calls for each in engines] == [calls] * 2
    assert set(result.phase_seconds) == {"propose", "prepare", "transfer", "verify", "commit"}
    assert (sync.phase, len(result.aborts), result.canary_difference_nats) == (SyncPhase.IDLE, 0, None)


async def test_a_channel_is_opened_once_and_used_for_every_version() -> None:
    sync, learner, engines = make_sync()
    for version in (1, 2, 3):
        await sync.publish(version, engines)
    assert versions(engines) == [3, 3]
    assert [learner.calls.count(each) for each in ("weight_layout", "open_channel", "send_weights")] == [1, 1, 3]
    assert [each.calls.count("connect_weights") for each in engines] == [1, 1]


async def test_every_worker_of_every_engine_has_a_rank_of_its_own() -> None:
    joined: dict[str, WeightChannel] = {}

    class Engine(FakeRollout):
        async def connect_weights(self, channel: WeightChannel) -> None:
            joined[self.worker_id] = channel
            await super().connect_weights(channel)

    sync, _, _ = make_sync(workers_per_engine=2)
    engines = [Engine(f"rollout-{index}") for index in range(3)]
    await sync.publish(1, engines)
    # Rank 0 sends; three engines of two workers each take 1-2, 3-4 and 5-6.
    assert [joined[each.worker_id].first_rank for each in engines] == [1, 3, 5]
    assert {each.world_size for each in joined.values()} == {7}


@pytest.mark.parametrize(
    ("held", "phase", "not_yet"),
    [
        ("ping", SyncPhase.PROPOSE, "connect_weights"),
        ("connect_weights", SyncPhase.PREPARE, "stage_weights"),
        ("stage_weights", SyncPhase.TRANSFER, "verify_weights"),
        ("verify_weights", SyncPhase.VERIFY, "commit_weights"),
    ],
)
async def test_no_engine_enters_a_phase_before_every_engine_has_left_the_one_before(
    held: str, phase: SyncPhase, not_yet: str
) -> None:
    sync, _, engines = make_sync()
    gate = asyncio.Event()
    engines[1].script[held] = [gate]
    publishing = asyncio.create_task(sync.publish(1, engines))
    await settle()
    assert sync.phase is phase
    assert not_yet not in engines[0].calls
    # Generation goes on while weights travel: nobody is paused yet.
    assert not any(each.is_paused for each in engines)
    gate.set()
    assert (await publishing).live == ("rollout-0", "rollout-1")
    assert versions(engines) == [1, 1]


async def test_a_second_sync_cannot_begin_before_the_first_has_ended() -> None:
    sync, _, engines = make_sync()
    gate = asyncio.Event()
    engines[0].script["stage_weights"] = [gate]
    publishing = asyncio.create_task(sync.publish(1, engines))
    await settle()
    with pytest.raises(RunFailed, match="orchestrator: a weight sync in phase transfer may go on with abort, verify"):
        await sync.publish(1, engines)
    gate.set()
    assert (await publishing).live == ("rollout-0", "rollout-1")


# -- who takes part


async def test_an_engine_that_serves_the_version_already_is_asked_for_nothing() -> None:
    sync, learner, engines = make_sync()
    await sync.publish(1, engines)
    learner.calls.clear()
    again = await sync.publish(1, engines)
    assert (again.live, again.manifest) == (("rollout-0", "rollout-1"), None)
    assert learner.calls == ["ping"]


async def test_a_restarted_engine_is_brought_to_the_version_without_the_others() -> None:
    sync, learner, engines = make_sync()
    await sync.publish(1, engines)
    await engines[1].restart()
    for each in (learner, *engines):
        each.calls.clear()
    result = await sync.publish(1, engines[1:])
    assert (result.live, versions(engines), engines[0].calls) == (("rollout-1",), [1, 1], [])
    assert learner.calls == ["ping", "weight_layout", "open_channel", "connect_weights", "send_weights"]
    await sync.publish(2, engines)
    assert versions(engines) == [2, 2]


async def test_a_restarted_engine_gets_the_next_version_with_the_others_over_a_new_channel() -> None:
    """It has the id of one that is connected, and is not connected."""
    sync, learner, engines = make_sync()
    await sync.publish(1, engines)
    await engines[1].restart()
    assert (await sync.publish(2, engines)).live == ("rollout-0", "rollout-1")
    assert versions(engines) == [2, 2]
    assert learner.calls.count("open_channel") == 2


async def test_an_engine_left_out_of_the_first_sync_and_restarted_is_connected_anew() -> None:
    """It served version 0 before and serves it after: only the sync knows that the channel is gone."""
    sync, learner, engines = make_sync()
    engines[1].script["verify_weights"] = [EngineRefused("checksum differs")] * 2
    assert (await sync.publish(1, engines)).live == ("rollout-0",)
    await engines[1].restart()
    assert (await sync.publish(2, engines)).live == ("rollout-0", "rollout-1")
    assert learner.calls.count("open_channel") == 2


async def test_an_engine_ahead_of_the_learner_is_left_out() -> None:
    sync, _, engines = make_sync()
    engines[0].policy_version = 5
    result = await sync.publish(1, engines)
    cause = "it serves version 5, newer than the learner's 1"
    assert result.left_out == (LeftOut(worker_id="rollout-0", phase=SyncPhase.PROPOSE, cause=cause),)
    assert result.live == ("rollout-1",)


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


# -- the canary


async def test_the_canary_is_answered_by_every_engine_and_scored_in_one_call() -> None:
    sync, learner, engines = make_sync(3, canary=CANARY)
    engines[1].canary_error_nats = 0.5
    result = await sync.publish(1, engines)
    assert result.canary_difference_nats == pytest.approx(0.5)
    assert [each.calls[-2:] for each in engines] == [["commit_weights", "canary"]] * 3
    assert learner.calls.count("score_canary") == 1
    assert result.metrics()["weight_sync_canary_difference_nats"] == result.canary_difference_nats


async def test_the_canary_is_asked_for_when_no_engine_is_paused_and_by_those_alone_that_serve_the_version() -> None:
    asked: dict[str, tuple[int, bool]] = {}

    class Engine(FakeRollout):
        async def canary(self, request: GroupRequest) -> CanaryAnswer:
            asked[self.worker_id] = (self.policy_version, any(each.is_paused for each in engines))
            return await super().canary(request)

    engines = [Engine(f"rollout-{index}") for index in range(3)]
    sync, _, _ = make_sync(canary=CANARY)
    engines[2].script["verify_weights"] = [EngineRefused("checksum differs")] * 2
    await sync.publish(1, engines)
    assert asked == {"rollout-0": (1, False), "rollout-1": (1, False)}


def test_the_canary_is_valid_for_any_vocabulary_and_the_same_every_time() -> None:
    first, second = canary_request(EntropySource.PROCESSED), canary_request(EntropySource.PROCESSED)
    assert 0 < first.prompt_ids.max() < 10
    assert first.prompt_ids.dtype == np.int32
    assert np.array_equal(first.prompt_ids, second.prompt_ids) and first.seed == second.seed
    sampling = first.sampling
    # The whole distribution of the policy, as the learner scores it.
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (1.0, 1.0, 0, ())
    assert sampling.entropy_source is EntropySource.PROCESSED
    assert sampling.max_response_tokens == 16


# -- what is reported


def test_a_result_reports_its_phases_and_its_counts() -> None:
    result = SyncResult(
        manifest=None,
        live=("rollout-0",),
        left_out=(LeftOut(worker_id="rollout-1", phase=SyncPhase.VERIFY, cause="no"),),
        phase_seconds={SyncPhase.TRANSFER: 1.5},
        aborts=("no", "no"),
        num_mismatches=3,
        canary_difference_nats=None,
    )
    assert result.metrics() == {
        "weight_sync_transfer_s": 1.5,
        "weight_sync_aborts_count": 2.0,
        "weight_sync_left_out_count": 1.0,
        "weight_sync_checksum_mismatch_count": 3.0,
    }


def test_the_time_of_each_phase_is_told() -> None:
    async def scenario() -> None:
        learner, engine = FakeLearner(), FakeRollout()
        sync = WeightSync(learner=learner, workers_per_engine=1, deadline_seconds=DEADLINE, clock=virtual_clock)
        hang(engine, "verify_weights")
        result = await sync.publish(1, [engine])
        # The phase runs into its deadline, and so does the abort.
        assert result.phase_seconds == {
            **dict.fromkeys(("propose", "prepare", "transfer"), 0.0),
            **{"verify": DEADLINE, "abort": DEADLINE},
        }

    run_virtual(scenario())
