"""`python -m dashboards.proof`: see the package. Exit code 1 when a dashboard does not show the run."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dashboards.proof.allowed import ALLOWED
from dashboards.proof.drawing.page import draw
from dashboards.proof.proving import Proof, prove
from dashboards.proof.telling import alerts, allowances, complaints, marks, table


def main(arguments: Sequence[str] | None = None) -> int:
    """0, 1 when a dashboard does not show the run, or 2 when there was no run to show."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.proof", description="Prove that dashboards show a run.")
    parser.add_argument("--out", type=Path, required=True, help="New or empty folder: pictures, and what the run left.")
    parser.add_argument("--steps", type=int, default=40, help="Learner steps of the run; default 40.")
    parser.add_argument("--pause-seconds", type=float, default=10.0, help="Length of each pause; default 10.")
    options = parser.parse_args(arguments)
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        return _refuse(f"--out must be a new or empty folder, found {out}")
    began = time.monotonic()
    try:
        proof = prove(out / "run", steps=options.steps, pause_seconds=options.pause_seconds, tell=_say)
    except (OSError, RuntimeError) as error:
        return _refuse(str(error))
    for answer in proof.answers:
        draw(answer, out / f"{answer.uid}.png")
    for line in _report(proof):
        _say(line)
    _say(f"{time.monotonic() - began:.0f} s, pictures in {out}")
    return 1 if proof.faults else 0


def _report(proof: Proof) -> Iterator[str]:
    yield from table(proof.answers, ALLOWED)
    yield from marks(proof.answers)
    yield str(proof.cost)
    yield alerts(proof.alerts)
    yield from allowances(proof.answers, ALLOWED)
    yield from complaints(proof.faults)


def _refuse(why: str) -> int:
    sys.stderr.write(f"dashboards.proof: {why}\n")
    return 2


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
