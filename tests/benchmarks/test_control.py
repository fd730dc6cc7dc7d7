"""The load benchmark gives its figures, on a load too small to mean anything."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own: the one that it starts its server with leaves a tracker behind as long as it lives.
SMALL = """
import json
from tests.benchmarks import control

if __name__ == "__main__":
    report = control.measure(num_seconds=1, num_clients=3, num_streams=2, num_saturated=5)
    print(json.dumps({"figures": report.figures, "latency": report.rows["latency"]}))
"""


def test_a_small_load_is_measured_in_every_phase() -> None:
    words = [sys.executable, "-c", SMALL]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    figures = report["figures"]
    assert set(figures) == {
        *("clients", "event_streams", "saturated_requests_per_second"),
        *(f"{phase}_status_p{part}_ms" for phase in ("training", "paused") for part in (50, 99)),
        *("training_event_p50_ms", "training_event_p99_ms"),
    }
    assert (figures["clients"], figures["event_streams"]) == (3, 2)
    asked = {row["what"]: row["number"] for row in report["latency"]}
    assert (asked["training_status"], asked["paused_status"]) == (3, 3)
    # Five steps a second reach each of two streams, from when it began.
    assert int(asked["training_event"]) >= 2
    assert all(value > 0 for value in figures.values())
