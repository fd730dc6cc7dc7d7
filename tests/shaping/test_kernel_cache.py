"""Laws of compiled code: another source, another folder; where nothing compiles, numpy gives the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from shaping.kernels.compiled.jit import cache_folder, usable

ROOT = Path(__file__).resolve().parents[2]


def test_any_change_to_what_is_compiled_leads_to_another_folder(tmp_path: Path) -> None:
    # numba alone notices changes in the file of a function, not in those of the functions it calls.
    sources, constants = tmp_path / "compiled", tmp_path / "support.py"
    sources.mkdir()
    for path in (sources / "runs.py", sources / "strings.py", constants):
        path.write_text("X = 1\n")
    folders = [cache_folder(sources, constants, "")]
    for path in (sources / "strings.py", constants, sources / "new.py"):
        path.write_text("X = 2\n")
        folders.append(cache_folder(sources, constants, ""))
    assert len(set(folders)) == 4
    assert cache_folder(sources, constants, "") == folders[-1]
    assert folders[0].parent == sources / "__pycache__"


def test_the_users_choice_of_a_cache_is_kept(tmp_path: Path) -> None:
    folder = cache_folder(tmp_path, Path(__file__), str(tmp_path / "mine"))
    assert folder.parent == tmp_path / "mine"


def test_a_folder_that_others_may_write_holds_no_code_to_run(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    assert usable(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o777, 0o770):
        folder.chmod(mode)
        assert not usable(folder)


def test_a_folder_that_cannot_be_made_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not usable(tmp_path / "file" / "kernels")


WITHOUT_NUMBA = """
import sys
{block}
import numpy as np
from shaping.kernels.choice import load_kernels
from shaping.less import multipliers
rows = multipliers([[1, 2, 9], [1, 2, 9]], [[0, 0, 1], [0, 0, 1]], [True, False], min_length=2)
assert [row.tolist() for row in rows] == [[0, 0, 1]] * 2, rows
assert type(load_kernels("auto")).__name__ == "VectorisedKernels"
try:
    load_kernels("numba")
except ValueError as error:
    assert "needs a numba that can compile" in str(error)
else:
    raise AssertionError("numba was not refused")
"""


@pytest.mark.parametrize("block", ['sys.modules["numba"] = None', 'import os; os.environ["NUMBA_DISABLE_JIT"] = "1"'])
def test_where_numba_cannot_compile_numpy_takes_over_and_numba_is_refused(block: str) -> None:
    # Both correct and incorrect rollouts hold 1 2: 0. The 9 is at the threshold, in no segment, N = 1: 1.
    script = WITHOUT_NUMBA.format(block=block)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("LESS runs on numpy alone" in done.stderr) is ("modules" in block)
