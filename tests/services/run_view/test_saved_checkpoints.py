"""Checkpoints as a reader sees them, and the two things that a reader may do to them."""

from hashlib import sha256
from pathlib import Path

import pytest
from checkpoint_builders import flip_byte, make_store, save_checkpoint

from services.checkpoints.checkpoint import TAG_FILE
from services.checkpoints.manifest import MANIFEST_FILE
from services.run_view.refusals import InUse, NotFound
from services.run_view.view import RunView
from shaping.errors import UserError

HOSTILE_NAMES = (
    "",
    "..",
    "../checkpoints/step-000001",
    "step-000001/learner",
    "latest",
    "step-000009",
    "STEP-000001",
    "\0",
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Three whole checkpoints."""
    store = make_store(tmp_path)
    for step in (1, 2, 3):
        save_checkpoint(store, step)
    return tmp_path


def test_a_checkpoint_says_what_its_manifest_says(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "step-000002" / TAG_FILE).write_text("good\n")
    manifest = (run_dir / "checkpoints" / "step-000002" / MANIFEST_FILE).read_bytes()
    found = RunView(run_dir).checkpoint("step-000002")
    assert (found.name, found.step, found.policy_version, found.created_at) == ("step-000002", 2, 2, 0.0)
    assert (found.is_complete, found.is_pinned, found.tag, found.problem) == (True, False, "good", "")
    assert found.sha256_manifest == sha256(manifest).hexdigest()
    files = [each for each in (run_dir / "checkpoints" / "step-000002").rglob("*") if each.is_file()]
    own = {MANIFEST_FILE, TAG_FILE}
    assert found.num_bytes == sum(each.stat().st_size for each in files if each.name not in own)


def test_damaged_ones_are_listed_in_their_places_with_the_reason(run_dir: Path) -> None:
    flip_byte(run_dir / "checkpoints" / "step-000002" / MANIFEST_FILE, 30)
    (run_dir / "checkpoints" / "step-000003" / "learner" / "rank-0.bin").unlink()
    (run_dir / "checkpoints" / ".step-000004.part").mkdir()
    found = RunView(run_dir).checkpoints()
    assert [(each.name, each.is_complete) for each in found] == [
        ("step-000003", False),
        ("step-000002", False),
        ("step-000001", True),
    ]
    assert "learner/rank-0.bin is missing" in found[0].problem
    assert "its own hash does not agree" in found[1].problem
    assert (found[1].step, found[1].num_bytes, found[1].sha256_manifest, found[1].created_at) == (None,) * 4


def test_later_moments_of_one_step_are_newer_than_the_first(run_dir: Path) -> None:
    save_checkpoint(make_store(run_dir), 3)
    save_checkpoint(make_store(run_dir), 4)
    names = [each.name for each in RunView(run_dir).checkpoints()]
    assert names == ["step-000004", "step-000003.1", "step-000003", "step-000002", "step-000001"]


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert RunView(tmp_path).checkpoints() == ()
    with pytest.raises(NotFound, match="found no 'step-000001' but none"):
        RunView(tmp_path).checkpoint("step-000001")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_another_name_is_not_found_and_touches_nothing(run_dir: Path, name: str) -> None:
    view = RunView(run_dir)
    for call in (
        view.checkpoint,
        view.delete_checkpoint,
        lambda each: view.pin_checkpoint(each, is_pinned=True),
    ):
        with pytest.raises(NotFound, match="a checkpoint must be one of those there are"):
            call(name)
    assert len(view.checkpoints()) == 3
    assert not any(each.is_pinned for each in view.checkpoints())


def test_a_pin_is_set_and_taken_away(run_dir: Path) -> None:
    view = RunView(run_dir)
    assert view.pin_checkpoint("step-000001", is_pinned=True).is_pinned
    assert view.pin_checkpoint("step-000001", is_pinned=True).is_pinned
    assert [each.is_pinned for each in view.checkpoints()] == [False, False, True]
    assert not view.pin_checkpoint("step-000001", is_pinned=False).is_pinned


def test_what_is_needed_is_not_removed(run_dir: Path) -> None:
    view = RunView(run_dir)
    view.pin_checkpoint("step-000001", is_pinned=True)
    for name, says in (("step-000003", "is the newest"), ("step-000001", "is pinned"), ("step-000002", "is in use")):
        with pytest.raises(InUse, match=says):
            view.delete_checkpoint(name, in_use={"step-000002"})
    assert len(view.checkpoints()) == 3


def test_the_newest_that_is_whole_stays_and_a_damaged_newer_one_may_go(run_dir: Path) -> None:
    flip_byte(run_dir / "checkpoints" / "step-000003" / MANIFEST_FILE, 30)
    view = RunView(run_dir)
    with pytest.raises(InUse, match="step-000002 is the newest that is whole"):
        view.delete_checkpoint("step-000002")
    view.delete_checkpoint("step-000003")
    assert [each.name for each in view.checkpoints()] == ["step-000002", "step-000001"]


def test_removal_takes_the_directory_and_follows_no_link_in_it(run_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (run_dir / "checkpoints" / "step-000001" / "link").symlink_to(outside)
    RunView(run_dir).delete_checkpoint("step-000001")
    assert (outside / "precious").read_text() == "x"
    assert sorted(each.name for each in (run_dir / "checkpoints").iterdir()) == ["step-000002", "step-000003"]


def test_a_link_in_the_place_of_a_checkpoint_is_no_checkpoint(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (run_dir / "checkpoints" / "step-000001").rename(other)
    (run_dir / "checkpoints" / "step-000001").symlink_to(other)
    view = RunView(run_dir)
    found = view.checkpoint("step-000001")
    assert (found.is_complete, found.step, found.sha256_manifest) == (False, None, None)
    for call in (view.delete_checkpoint, lambda each: view.pin_checkpoint(each, is_pinned=True)):
        with pytest.raises(UserError, match="files of a run must be its own"):
            call("step-000001")
    assert (other / MANIFEST_FILE).exists()
    assert not (other / "pinned").exists()


def test_a_linked_folder_of_checkpoints_is_refused(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "checkpoints").rename(tmp_path / "elsewhere")
    (run_dir / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="files of a run must be its own"):
        RunView(run_dir).checkpoints()
