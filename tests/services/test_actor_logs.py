"""What actors print lands in their file, children included, and the first error of a role is found in it."""

import subprocess
import sys
from pathlib import Path

from services.actor_logs import first_error

PRINTS = """
import os, subprocess, sys
from services.actor_logs import redirect_output
redirect_output({path!r})
print("from the actor", flush=True)
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('from its child')"])
"""


def test_what_an_actor_and_its_children_print_lands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rollout-0.log"
    done = subprocess.run([sys.executable, "-c", PRINTS.format(path=str(path))], capture_output=True, check=True)
    assert path.read_text() == "from the actor\nfrom its child"
    assert done.stdout == b""


def test_without_the_folder_printing_stays_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "rollout-0.log"
    done = subprocess.run([sys.executable, "-c", PRINTS.format(path=str(path))], capture_output=True, check=True)
    assert done.stdout == b"from the actor\n"
    assert not path.exists()


def test_first_error_of_the_role_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "learner-0.log").write_text("OSError: of another role\n")
    lines = (
        "RuntimeError: failed. See root cause above.",
        "(EngineCore pid=7) ERROR 01-01 core.py ValueError: no memory for the cache",
        "OSError: later",
    )
    (tmp_path / "rollout-0.log").write_text("\n".join(lines))
    expected = f"ValueError: no memory for the cache ({tmp_path.name}/rollout-0.log)"
    assert first_error(tmp_path, "rollout") == expected


def test_a_role_that_printed_no_error_has_none(tmp_path: Path) -> None:
    (tmp_path / "rollout-0.log").write_text("an Error without a colon, and a warning\n")
    assert first_error(tmp_path, "rollout") == ""
    assert first_error(tmp_path, "shaping") == ""
