"""Below one directory and nowhere else, whatever the names and whatever stands there."""

import os
from pathlib import Path

import pytest

from services.run_view.confined import ConfinedFolder
from services.run_view.refusals import NotFound
from shaping.errors import UserError

HOSTILE_NAMES = (
    *("", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", "a\nb"),
    *(".hidden", "Upper", "-dash", "a" * 65, "\u0430", "a b"),
)


@pytest.fixture
def folder(tmp_path: Path) -> ConfinedFolder:
    root = tmp_path / "run"
    (root / "logs").mkdir(parents=True)
    (root / "logs" / "driver.log").write_text("hello")
    (tmp_path / "secret.log").write_text("secret")
    return ConfinedFolder(root)


def test_a_file_below_the_root_is_read(folder: ConfinedFolder) -> None:
    with folder.open("logs", "driver.log") as file:
        assert file.read() == b"hello"
    assert folder.names("logs") == ["driver.log"]
    assert folder.names("nothing") == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_opens_nothing(folder: ConfinedFolder, name: str) -> None:
    for names in ((name,), ("logs", name), (name, "driver.log")):
        with pytest.raises(UserError, match="a name must be"):
            folder.open(*names)
    with pytest.raises(UserError, match="a name must be"):
        folder.check_folder(name)


def test_links_are_refused_wherever_they_stand(folder: ConfinedFolder, tmp_path: Path) -> None:
    (folder.root / "logs" / "leak.log").symlink_to(tmp_path / "secret.log")
    (folder.root / "inside.log").symlink_to(folder.root / "logs" / "driver.log")
    (folder.root / "out").symlink_to(tmp_path)
    for names in (("logs", "leak.log"), ("inside.log",), ("out", "secret.log")):
        with pytest.raises(UserError, match="files of a run must be its own"):
            folder.open(*names)
    with pytest.raises(UserError, match="files of a run must be its own"):
        folder.check_folder("out")
    assert folder.names("logs") == ["driver.log"]


def test_what_is_no_plain_file_is_refused_without_waiting(folder: ConfinedFolder) -> None:
    os.mkfifo(folder.root / "pipe.log")
    with pytest.raises(UserError, match="a file of a run must be a plain file"):
        folder.open("pipe.log")
    with pytest.raises(UserError, match="a file of a run must be a plain file"):
        folder.open("logs")


def test_the_root_may_be_reached_through_a_link(folder: ConfinedFolder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder.root)
    with ConfinedFolder(tmp_path / "link").open("logs", "driver.log") as file:
        assert file.read() == b"hello"


def test_a_missing_file_and_a_missing_root_are_told_apart(folder: ConfinedFolder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.open("logs", "nothing.log")
    with pytest.raises(NotFound, match="the directory of a run must be readable") as caught:
        ConfinedFolder(tmp_path / "gone").open("driver.log")
    assert caught.value.what == "run-directory"


def test_no_descriptor_is_left_open(folder: ConfinedFolder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for names in (("logs", "driver.log"), ("logs", "nothing.log"), ("nothing", "x"), ("..",), ("logs",)):
        try:
            folder.open(*names).close()
        except (FileNotFoundError, UserError):
            continue
    folder.names("logs")
    folder.check_folder("logs")
    assert len(os.listdir("/proc/self/fd")) == before
