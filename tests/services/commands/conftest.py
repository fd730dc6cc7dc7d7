"""A user without settings, a control plane on a real port, and a run of it that obeys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lessrl_shell import Shell
from served_plane import ObedientRun, ServedPlane, serve_plane, serve_run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings."""
    for name in ("LESSRL_URL", "LESSRL_TOKEN", "LESSRL_TOKEN_FILE", "LESSRL_STORE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedPlane]:
    with serve_plane(tmp_path) as plane:
        monkeypatch.setenv("LESSRL_URL", plane.url)
        yield plane


@pytest.fixture
def run(served: ServedPlane, tmp_path: Path) -> Iterator[ObedientRun]:
    with serve_run(served, tmp_path / "run") as obedient:
        yield obedient


@pytest.fixture
def lessrl(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
