"""What a weight sync may do next, and who is to blame."""

import itertools

import pytest

from services.sync_phases import Answer, Judgement, LeftOut, Reply, SyncPhase, entered, judge
from shaping.errors import RunFailed

IDLE, PROPOSE, PREPARE, TRANSFER, VERIFY, COMMIT, CANARY, ABORT = SyncPhase

DONE = Reply(answer=Answer.DONE)
REFUSED = Reply(answer=Answer.REFUSED, cause="bucket 3 must have checksum x")
BROKEN = Reply(answer=Answer.BROKEN, cause="bucket 3 did not arrive")
DEAD = Reply(answer=Answer.DEAD, cause="its process ended")
LATE = Reply(answer=Answer.LATE, cause="took longer")


def judged(
    *replies: Reply, refusals: tuple[int, ...] = (), phase: SyncPhase = TRANSFER, learner_broke: bool = False
) -> Judgement:
    """Engines are called a, b, c in order."""
    counted = dict(zip("abc", refusals, strict=False))
    return judge(phase, dict(zip("abc", replies, strict=False)), counted, learner_broke=learner_broke)


def make_judgement(**parts: object) -> Judgement:
    """Everybody is done, unless told otherwise."""
    usual = {"left_out": (), "blamed": (), "is_blind": False, "suspects_learner": False, "goes_on": True}
    return Judgement(**{**usual, **parts})  # type: ignore[arg-type]


def test_a_sync_goes_through_its_phases_in_order() -> None:
    phase = IDLE
    for following in (PROPOSE, PREPARE, TRANSFER, VERIFY, COMMIT, CANARY, IDLE):
        phase = entered(phase, following)
    assert phase is IDLE


def test_nothing_is_committed_that_was_not_verified() -> None:
    assert [each for each in SyncPhase if _may(each, COMMIT)] == [VERIFY]
    assert [each for each in SyncPhase if _may(each, VERIFY)] == [TRANSFER]
    assert [each for each in SyncPhase if _may(each, TRANSFER)] == [PREPARE]


def test_every_phase_under_way_can_be_aborted_and_an_abort_ends_or_begins_anew() -> None:
    assert [each for each in SyncPhase if not _may(each, ABORT)] == [IDLE]
    assert [each for each in SyncPhase if _may(ABORT, each)] == [IDLE, PROPOSE, CANARY, ABORT]


def test_a_sync_cannot_begin_while_another_is_under_way() -> None:
    assert [each for each in SyncPhase if _may(each, PROPOSE)] == [IDLE, COMMIT, ABORT]
    with pytest.raises(RunFailed, match="in phase transfer may go on with abort, verify, not with propose"):
        entered(TRANSFER, PROPOSE)


def _may(current: SyncPhase, following: SyncPhase) -> bool:
    try:
        return entered(current, following) is following
    except RunFailed:
        return False


def test_when_all_are_done_the_next_phase_begins() -> None:
    assert judged(DONE, DONE) == make_judgement()


@pytest.mark.parametrize("gone", [DEAD, LATE])
def test_an_engine_that_is_gone_is_left_out_at_once_and_the_rest_goes_on(gone: Reply) -> None:
    left_out = LeftOut(worker_id="b", phase=TRANSFER, cause=gone.cause)
    assert judged(DONE, gone, DONE) == make_judgement(left_out=(left_out,))
    assert str(left_out) == f"b was left out of the weight sync in phase transfer: {gone.cause}"


def test_an_engine_that_refuses_is_asked_once_more_and_then_left_out() -> None:
    assert judged(DONE, REFUSED) == make_judgement(blamed=("b",), goes_on=False)
    left_out = LeftOut(worker_id="b", phase=VERIFY, cause=REFUSED.cause)
    second = judged(DONE, REFUSED, refusals=(0, 1), phase=VERIFY)
    assert second == make_judgement(left_out=(left_out,), blamed=("b",))


@pytest.mark.parametrize("culprit", [DEAD, LATE, REFUSED])
def test_whoever_met_a_broken_channel_is_innocent_where_a_culprit_is_known(culprit: Reply) -> None:
    judgement = judged(BROKEN, culprit, BROKEN, refusals=(1, 0, 1), learner_broke=True)
    assert judgement.blamed == (("b",) if culprit is REFUSED else ())
    assert [each.worker_id for each in judgement.left_out] == ([] if culprit is REFUSED else ["b"])
    assert not (judgement.goes_on or judgement.is_blind or judgement.suspects_learner)


def test_a_channel_that_broke_under_all_blames_nobody() -> None:
    judgement = judged(BROKEN, BROKEN, DONE, refusals=(1, 1, 1), learner_broke=True)
    assert judgement == make_judgement(is_blind=True, goes_on=False)


def test_a_channel_that_broke_under_an_engine_alone_with_the_learner_blames_both() -> None:
    assert judged(BROKEN, learner_broke=True) == make_judgement(blamed=("a",), goes_on=False)
    second = judged(BROKEN, refusals=(1,), learner_broke=True)
    left_out = LeftOut(worker_id="a", phase=TRANSFER, cause=BROKEN.cause)
    assert second == make_judgement(left_out=(left_out,), blamed=("a",), suspects_learner=True, goes_on=False)


def test_a_learner_whose_end_breaks_while_every_engine_has_all_is_suspected() -> None:
    assert judged(DONE, DONE, learner_broke=True) == make_judgement(suspects_learner=True)


def test_a_channel_whose_other_end_held_blames_those_that_it_broke_under() -> None:
    assert judged(DONE, BROKEN) == make_judgement(blamed=("b",), goes_on=False)
    assert [each.worker_id for each in judged(DONE, BROKEN, refusals=(0, 1)).left_out] == ["b"]


def test_with_nobody_left_nothing_goes_on() -> None:
    assert not judged(DEAD, LATE).goes_on
    assert not judged().goes_on


def test_nothing_is_tried_again_once_the_version_is_live() -> None:
    judgement = judged(DONE, REFUSED, BROKEN, phase=CANARY)
    assert [each.worker_id for each in judgement.left_out] == ["b", "c"]
    assert judgement.goes_on


def test_every_attempt_that_does_not_go_on_counts_against_somebody() -> None:
    """So a sync ends: an engine has two refusals to give, and engines that fail blindly are soon alone. Every
    combination of three engines' answers and counts."""
    answers = (DONE, REFUSED, BROKEN, DEAD, LATE)
    for replies in itertools.product(answers, repeat=3):
        for refusals in itertools.product((0, 1), repeat=3):
            judgement = judged(*replies, refusals=refusals, learner_broke=BROKEN in replies)
            assert judgement.goes_on or judgement.left_out or judgement.blamed or judgement.is_blind
            for name, reply, count in zip("abc", replies, refusals, strict=True):
                is_out = name in [each.worker_id for each in judgement.left_out]
                assert is_out == (reply in (DEAD, LATE) or (name in judgement.blamed and count == 1))
