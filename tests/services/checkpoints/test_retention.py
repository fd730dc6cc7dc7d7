"""What is kept, what goes, and that nothing goes by half."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from checkpoint_builders import make_store, save_checkpoint
from disk_calls import just_before

from services.checkpoints.retention import kept
from services.checkpoints.store import CheckpointStore
from services.recipe_sections import CheckpointConfig
from shaping.errors import CheckpointError


def filled(folder: Path, accuracies: Mapping[int, float | None]) -> CheckpointStore:
    store = make_store(folder)
    for step, accuracy in accuracies.items():
        save_checkpoint(store, step, metrics={} if accuracy is None else {"accuracy": accuracy})
    return store


def steps(store: CheckpointStore) -> list[int]:
    return [each.manifest.step for each in store.list()]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2, 3, 10), 0.0))
    assert store.retain(CheckpointConfig(keep_last=2)) == ("step-000001", "step-000002")
    assert steps(store) == [3, 10]
    assert sorted(each.name for each in store.root.iterdir()) == ["step-000003", "step-000010"]


def test_the_best_is_kept_and_of_equal_ones_the_newest(tmp_path: Path) -> None:
    store = filled(tmp_path, {1: 0.5, 2: 0.9, 3: 0.9, 4: None, 5: 0.1})
    store.retain(CheckpointConfig(keep_last=1, keep_best="accuracy"))
    assert steps(store) == [3, 5]


def test_a_metric_that_no_checkpoint_has_keeps_none(tmp_path: Path) -> None:
    store = filled(tmp_path, {1: 0.5, 2: 0.9})
    store.retain(CheckpointConfig(keep_last=1, keep_best="reward_total_value"))
    assert steps(store) == [2]


def test_a_pinned_one_stays_until_it_is_unpinned(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2, 3), 0.0))
    store.pin("step-000001")
    store.pin("step-000001")
    assert [each.name for each in kept(store.list(), CheckpointConfig(keep_last=1))] == ["step-000001", "step-000003"]
    assert store.retain(CheckpointConfig(keep_last=1)) == ("step-000002",)
    assert steps(store) == [1, 3]
    assert store.get("step-000001").checkpoint.is_pinned
    store.unpin("step-000001")
    store.unpin("step-000001")
    assert store.retain(CheckpointConfig(keep_last=1)) == ("step-000001",)
    for change in (store.pin, store.unpin):
        with pytest.raises(CheckpointError, match="found no 'step-000001' but step-000003"):
            change("step-000001")


def test_a_damaged_one_counts_for_nothing_and_is_left_for_a_person(tmp_path: Path) -> None:
    store = filled(tmp_path, {1: 0.9, 2: 0.5, 3: 0.5})
    (store.root / "step-000003" / "run_state.json").unlink()
    (store.root / "step-000001" / "manifest.json").unlink()
    assert store.retain(CheckpointConfig(keep_last=1, keep_best="accuracy")) == ()
    assert steps(store) == [2]
    assert [each.name for each in store.damaged()] == ["step-000001", "step-000003"]


def test_a_course_that_was_left_goes_unless_it_is_pinned(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2, 3), 0.0))
    store.pin("step-000003")
    store.set_aside_after(store.list()[0])
    save_checkpoint(store, 2)
    assert store.retain(CheckpointConfig(keep_last=2)) == ("step-000002.replaced-1",)
    assert (store.root / "step-000003.replaced-1" / "pinned").exists()


def test_nothing_is_removed_where_there_is_nothing_whole(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert store.retain(CheckpointConfig(keep_last=1)) == ()
    save_checkpoint(store, 1)
    (store.root / "step-000001" / "manifest.json").unlink()
    assert store.retain(CheckpointConfig(keep_last=1)) == ()


def test_a_removal_that_was_killed_leaves_nothing_that_looks_whole_and_is_finished_later(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2), 0.0))
    # What is there when the process ends after the rename, before the first file is removed.
    (store.root / "step-000001").rename(store.root / ".step-000001.gone")
    assert (steps(store), store.damaged()) == ([2], ())
    save_checkpoint(store, 3)
    assert sorted(each.name for each in store.root.iterdir()) == ["step-000002", "step-000003"]


def test_one_pinned_while_it_was_being_removed_comes_back(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2), 0.0))
    store.pin("step-000001")
    (store.root / "step-000001").rename(store.root / ".step-000001.gone")
    store.begin(3).abandon()
    assert steps(store) == [1, 2]


def test_one_pinned_at_the_last_moment_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2), 0.0))
    with just_before(os.rename, lambda: store.pin("step-000001")):
        assert store.retain(CheckpointConfig(keep_last=1)) == ()
    assert steps(store) == [1, 2]
    assert store.get("step-000001").checkpoint.is_pinned


def test_one_that_cannot_be_removed_is_said_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path, dict.fromkeys((1, 2, 3), 0.0))
    # A directory of that name, not empty, is in the way of the rename, as one that a removal could not empty.
    (store.root / ".step-000001.gone" / "busy").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert store.retain(CheckpointConfig(keep_last=1)) == ("step-000002",)
    (record,) = caplog.records
    assert "could not be removed: Directory not empty" in record.getMessage()
    assert steps(store) == [1, 3]
