"""The load benchmark gives its figures, on a load too small to mean anything."""

from tests.benchmarks import control


def test_a_small_load_is_measured_in_every_phase() -> None:
    report = control.measure(num_seconds=1, num_clients=3, num_streams=2, num_saturated=5)
    assert set(report.figures) == {
        *("clients", "event_streams", "saturated_requests_per_second"),
        *(f"{phase}_status_p{part}_ms" for phase in ("training", "paused") for part in (50, 99)),
        *("training_event_p50_ms", "training_event_p99_ms"),
    }
    assert (report.figures["clients"], report.figures["event_streams"]) == (3, 2)
    asked = {row["what"]: row["number"] for row in report.rows["latency"]}
    assert (asked["training_status"], asked["paused_status"]) == (3, 3)
    # Five steps a second reach each of two streams, from when it began.
    assert int(asked["training_event"]) >= 2
    assert all(value > 0 for value in report.figures.values())
