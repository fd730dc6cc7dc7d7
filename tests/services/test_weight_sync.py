"""A weight sync that works: who takes part, in which order, and what is told of it."""

import asyncio

import numpy as np
import pytest
from fake_roles import FakeLearner, FakeRollout, settle
from sync_builders import CANARY, DEADLINE, MANIFEST, hang, make_sync, versions

from services.canary import MAX_RESPONSE_TOKENS, canary_request
from services.sync_phases import LeftOut, SyncPhase
from services.virtual_time import run_virtual, virtual_clock
from services.weight_sync import SyncResult, WeightSync
from shaping.errors import EngineRefused, RunFailed
from shaping.records import EntropySource, GroupRequest
from shaping.training import CanaryAnswer, WeightChannel

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
    assert sampling.max_response_tokens == MAX_RESPONSE_TOKENS <= 16


# -- what is reported


def test_a_result_reports_its_phases_and_its_counts() -> None:
    result = SyncResult(
        manifest=None,
        live=("rollout-0",),
        left_out=(LeftOut(worker_id="rollout-1", phase=SyncPhase.VERIFY, cause="no"),),
        phase_seconds={SyncPhase.TRANSFER: 1.5},
        aborts=("no", "no"),
        num_mismatches=3,
        num_bytes=80,
        canary_difference_nats=None,
    )
    assert result.metrics() == {
        "weight_sync_transfer_s": 1.5,
        "weight_sync_bytes": 80.0,
        "weight_sync_aborts_count": 2.0,
        "weight_sync_left_out_count": 1.0,
        "weight_sync_checksum_mismatch_count": 3.0,
    }


async def test_the_bytes_are_those_of_engines_that_took_the_version() -> None:
    # The layout has 8 bytes. Of three engines one serves version 1 already, and one refuses twice and is left out.
    engines = [FakeRollout(f"rollout-{index}") for index in range(3)]
    sync, _, _ = make_sync()
    assert (await sync.publish(1, engines[:1])).num_bytes == 8
    engines[2].script["verify_weights"] = [EngineRefused("checksum differs")] * 2
    result = await sync.publish(1, engines)
    assert (result.live, result.num_bytes) == (("rollout-0", "rollout-1"), 8)
    # Nobody is behind.
    assert (await sync.publish(1, engines[:2])).num_bytes == 0


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
