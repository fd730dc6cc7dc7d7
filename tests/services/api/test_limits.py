"""How much one caller may ask, and all together; what a stream's ticket opens. On a clock that the test moves."""

import pytest
from report_builders import Clock

from services.api.limits import MAX_BUCKETS, Buckets, Limits, StreamSlots, TokenBucket
from services.api.tickets import MAX_TICKETS, TICKET_SECONDS, Tickets
from services.control.records import Caller

ANN = Caller(name="ann", role="read")


def test_a_bucket_lets_its_burst_pass_and_then_its_rate() -> None:
    clock = Clock(0.0)
    bucket = TokenBucket(2.0, 3, clock=clock)
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take() == 0.5  # 2 a second: half a second for the next one
    clock.now = 0.5
    assert bucket.take() == 0.0
    assert bucket.take() == 0.5
    clock.now = 1000.0  # a rest fills it to its burst, no further
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_refused_request_takes_nothing() -> None:
    clock = Clock(0.0)
    bucket = TokenBucket(1.0, 1, clock=clock)
    bucket.take()
    for tenth in range(1, 10):
        clock.now = tenth / 10
        assert bucket.take() == pytest.approx(1.0 - tenth / 10)
    clock.now = 1.0
    assert bucket.take() == 0.0


def test_callers_and_kinds_of_call_do_not_use_up_each_others_buckets() -> None:
    buckets = Buckets(Limits(read_burst=1, write_burst=1), clock=Clock(0.0))
    assert [buckets.take("ann", is_write=write) for write in (False, True)] == [0.0, 0.0]
    assert buckets.take("bob", is_write=False) == 0.0
    assert buckets.take("ann", is_write=False) == pytest.approx(1 / 20)
    assert buckets.take("ann", is_write=True) == pytest.approx(1 / 2)


def test_a_flood_of_made_up_callers_takes_bounded_memory() -> None:
    buckets = Buckets(Limits(), clock=Clock(0.0))
    for number in range(3 * MAX_BUCKETS):
        buckets.take(f"?{number}", is_write=False)
    assert len(buckets._buckets) == MAX_BUCKETS


def test_streams_are_counted_and_given_back() -> None:
    slots = StreamSlots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give_back()
    assert slots.take()


def test_the_defaults_let_a_page_a_top_and_a_prometheus_of_one_name_be() -> None:
    """In 30 s: the page loads 20 answers at once and asks 5 a second, top 2 a second, Prometheus one in 5 s."""
    clock = Clock(0.0)
    buckets = Buckets(Limits(), clock=clock)
    assert all(buckets.take("ann", is_write=False) == 0.0 for _ in range(20))
    for tenth in range(300):
        clock.now = tenth / 10
        due = (tenth % 2 == 0) + (tenth % 5 == 0) + (tenth % 50 == 0)
        assert all(buckets.take("ann", is_write=False) == 0.0 for _ in range(due))


def test_a_ticket_opens_once_and_soon() -> None:
    clock = Clock(0.0)
    tickets = Tickets(clock=clock)
    once, late = tickets.give(ANN), tickets.give(ANN)
    assert tickets.redeem("made-up") is None
    assert tickets.redeem("") is None
    clock.now = TICKET_SECONDS - 0.1
    assert tickets.redeem(once) == ANN
    assert tickets.redeem(once) is None
    clock.now = TICKET_SECONDS
    assert tickets.redeem(late) is None


def test_more_tickets_than_there_may_be_void_the_oldest() -> None:
    tickets = Tickets(clock=Clock(0.0))
    given = [tickets.give(ANN) for _ in range(MAX_TICKETS + 1)]
    assert tickets.redeem(given[0]) is None
    assert tickets.redeem(given[1]) == ANN
