"""The proof itself, shorter than `make dashboards-check`: a real run, a real Prometheus, and every query answered."""

import shutil
from pathlib import Path

import pytest

from dashboards.proof.proving import prove

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed: Debian's package prometheus has it"
    ),
]


def test_every_dashboard_shows_a_real_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    # As `make dashboards-check` names it, from where one stands.
    monkeypatch.chdir(tmp_path)
    proof = prove(Path("run"), steps=24, pause_seconds=6.0, tell=said.append)
    assert [str(each) for each in proof.faults] == []
    assert proof.answers, "there are no dashboards"
    assert "SIGKILL of a rollout worker" in said
