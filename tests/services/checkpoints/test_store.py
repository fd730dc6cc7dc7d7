"""A checkpoint is whole or not there; what is wrong with one is said, and the one before it stays usable."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_builders import (
    SHARDS,
    flip_byte,
    make_facts,
    make_store,
    save_checkpoint,
    shard_content,
    write_shards,
)
from disk_calls import disk_calls, just_before

from services.checkpoints.checkpoint import Checkpoint, read_checkpoint
from services.checkpoints.store import CheckpointStore, Damaged
from services.recipe_sections import CheckpointConfig
from shaping.errors import CheckpointError
from shaping.stored_files import StoredFile, stored_file


def names(store: CheckpointStore) -> list[str]:
    return [each.name for each in store.list()]


def test_a_committed_checkpoint_holds_what_was_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    saved = save_checkpoint(store, 10, metrics={"accuracy": 0.5})
    found = store.get("latest").checkpoint
    assert found == saved == store.get("step-000010").checkpoint == store.list()[0]
    assert found.read_json("run_state.json") == {"step": 10}
    assert [(found.path / shard).read_bytes() for shard in SHARDS] == [shard_content(10, shard) for shard in SHARDS]
    manifest = found.manifest
    assert (manifest.step, manifest.policy_version, manifest.run_id) == (10, 10, "run_1")
    assert (manifest.created_at, manifest.metrics) == ("1970-01-01T00:00:00+00:00", {"accuracy": 0.5})
    assert manifest.logs == {"metrics.jsonl": 1000, "ledger.jsonl": 100, "groups.jsonl": 0}
    assert [each.path for each in manifest.files] == ["learner/rank-0.bin", "learner/rank-1.bin", "run_state.json"]
    assert sorted(each.name for each in found.path.iterdir()) == ["learner", "manifest.json", "run_state.json"]


def test_numbers_that_are_not_finite_judge_nothing(tmp_path: Path) -> None:
    metrics = {"loss": float("nan"), "norm": float("inf"), "accuracy": 0.5}
    assert save_checkpoint(make_store(tmp_path), 1, metrics=metrics).manifest.metrics == {"accuracy": 0.5}


def test_checkpoints_are_in_order_of_steps_also_beyond_six_digits(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (2, 10, 999_999, 1_000_000):
        save_checkpoint(store, step)
    assert names(store) == ["step-000002", "step-000010", "step-999999", "step-1000000"]
    assert store.get("latest").checkpoint.name == "step-1000000"


def test_a_run_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert (store.latest(), store.list(), store.damaged()) == (None, (), ())
    with pytest.raises(CheckpointError, match="found none"):
        store.get("latest")


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save_checkpoint(store, 1)
    for name in ("step-000002", "../checkpoints/step-000001", "", "."):
        with pytest.raises(CheckpointError, match="step-000001"):
            store.get(name)


def flip_in_shard(path: Path) -> None:
    flip_byte(path / SHARDS[1], 17)


def cut_shard(path: Path) -> None:
    os.truncate(path / SHARDS[1], 5)


def drop_shard(path: Path) -> None:
    (path / SHARDS[1]).unlink()


def drop_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def flip_in_manifest(path: Path) -> None:
    flip_byte(path / "manifest.json", 100)


def change_state(path: Path) -> None:
    flip_byte(path / "run_state.json", 8)


def take_from_elsewhere(path: Path) -> None:
    other = path.parent / "step-000001" / "manifest.json"
    (path / "manifest.json").write_bytes(other.read_bytes())


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip_in_shard, "learner/rank-1.bin must have the content that was saved"),
    (cut_shard, "learner/rank-1.bin must have 14500 bytes, found 5"),
    (drop_shard, "learner/rank-1.bin is missing"),
    (drop_manifest, "must hold manifest.json, which is written last"),
    (flip_in_manifest, "its own hash does not agree"),
    (change_state, "run_state.json must have the content that was saved"),
    (take_from_elsewhere, "step-000001 is named step-000002"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_the_reason_said(
    damage: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    store = make_store(tmp_path)
    before = save_checkpoint(store, 1)
    damage(save_checkpoint(store, 2).path)
    found = store.latest()
    assert found is not None and found.checkpoint == before
    (passed_over,) = found.passed_over
    assert passed_over.name == "step-000002" and reason in passed_over.reason
    with pytest.raises(CheckpointError) as caught:
        store.get("step-000002")
    assert reason in str(caught.value)
    assert store.get("step-000001").checkpoint == before


def test_where_every_checkpoint_is_damaged_nothing_is_begun_anew_in_silence(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    drop_manifest(save_checkpoint(store, 1).path)
    flip_in_shard(save_checkpoint(store, 2).path)
    with pytest.raises(
        CheckpointError, match=r"found none.*step-000002: learner/rank-1.bin.*step-000001: a checkpoint"
    ):
        store.latest()


def test_what_is_seen_without_reading_is_told_apart_from_what_is_whole(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (1, 2, 3):
        save_checkpoint(store, step)
    drop_shard(store.root / "step-000002")
    assert names(store) == ["step-000001", "step-000003"]
    (broken,) = store.damaged()
    assert isinstance(broken, Damaged) and broken.name == "step-000002"


def test_what_is_being_written_is_never_seen(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save_checkpoint(store, 1)
    draft = store.begin(2)
    files = write_shards(draft, 2)
    draft.write_json("run_state.json", {})
    assert (names(store), store.damaged()) == (["step-000001"], ())
    draft.commit(files=files, facts=make_facts(2))
    assert names(store) == ["step-000001", "step-000002"]


def test_a_save_that_was_killed_is_cleared_by_the_next(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write_shards(store.begin(2), 2)
    write_shards(store.begin(3), 3)
    assert [each.name for each in store.root.iterdir()] == [".step-000003.part"]
    save_checkpoint(store, 2)
    assert [each.name for each in store.root.iterdir()] == ["step-000002"]


def test_an_abandoned_draft_leaves_nothing_and_a_committed_one_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    draft = store.begin(1)
    write_shards(draft, 1)
    draft.abandon()
    draft.abandon()
    assert list(store.root.iterdir()) == []
    draft = store.begin(1)
    draft.commit(files=write_shards(draft, 1), facts=make_facts())
    draft.abandon()
    assert names(store) == ["step-000001"]


def lost(draft: Path, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    (draft / SHARDS[0]).unlink()
    return files


def shorter(draft: Path, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    os.truncate(draft / SHARDS[0], 1)
    return files


def unlisted(draft: Path, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    (draft / "learner" / "more.bin").touch()
    return files


def twice(draft: Path, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    del draft
    return (*files, files[0])


def reserved(draft: Path, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    (draft / "pinned").touch()
    return (*files, stored_file(draft, "pinned"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lost, "learner/rank-0.bin is missing"),
        (shorter, "learner/rank-0.bin must have 14500 bytes, found 1"),
        (unlisted, "must be listed with its hash, learner/more.bin is not"),
        (twice, "must have names of their own"),
        (reserved, "must have names of their own"),
    ],
)
def test_a_draft_that_is_not_what_is_listed_never_becomes_a_checkpoint(
    change: Callable[[Path, tuple[StoredFile, ...]], tuple[StoredFile, ...]], reason: str, tmp_path: Path
) -> None:
    store = make_store(tmp_path)
    before = save_checkpoint(store, 1)
    draft = store.begin(2)
    files = change(draft.path, write_shards(draft, 2))
    with pytest.raises(CheckpointError) as caught:
        draft.commit(files=files, facts=make_facts(2))
    assert reason in str(caught.value)
    assert [each.name for each in store.root.iterdir()] == ["step-000001"]
    assert store.get("latest").checkpoint == before


def test_steps_rise(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save_checkpoint(store, 5)
    with pytest.raises(CheckpointError, match="no earlier step than any there is, got 4 after step-000005"):
        store.begin(4)
    drop_manifest(save_checkpoint(store, 6).path)
    with pytest.raises(CheckpointError, match="got 5 after step-000006"):
        store.begin(5)


def test_later_moments_of_a_step_have_names_of_their_own_in_order(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for _ in range(12):
        save_checkpoint(store, 5)
    save_checkpoint(store, 6)
    names = [each.name for each in store.list()]
    # Not in the order of their letters: .10 comes after .9.
    assert names == ["step-000005", *(f"step-000005.{number}" for number in range(1, 12)), "step-000006"]
    assert [each.manifest.step for each in store.list()] == [5] * 12 + [6]
    found = store.get("step-000005.2").checkpoint
    assert found.moment == (5, 2)
    later = store.set_aside_after(found)
    assert later == (*(f"step-000005.{number}" for number in range(3, 12)), "step-000006")
    # The moments that were left are another course's; the next one follows the one that the run went on from.
    assert save_checkpoint(store, 5).name == "step-000005.3"
    for foreign in ("step-000005.0", "step-000005.x", "step-000005.03"):
        (store.root / foreign).mkdir()
    assert [each.name for each in store.list()] == ["step-000005", *(f"step-000005.{n}" for n in (1, 2, 3))]
    assert store.damaged() == ()


def test_of_several_moments_of_a_step_the_last_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (1, 1, 2, 2, 2):
        save_checkpoint(store, step)
    store.pin("step-000002")
    assert store.retain(CheckpointConfig(keep_last=2)) == ("step-000001", "step-000002.1")
    assert [each.name for each in store.list()] == ["step-000001.1", "step-000002", "step-000002.2"]


def test_a_tag_is_kept_beside_the_checkpoint_which_stays_as_it_was(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    saved = save_checkpoint(store, 1)
    assert saved.tag == ""
    store.tag("step-000001", "before the change")
    store.tag("step-000001", "before the change of rate")
    (found,) = store.list()
    found.verify()
    assert found.tag == "before the change of rate"
    with pytest.raises(CheckpointError, match="found no 'step-000002'"):
        store.tag("step-000002", "x")


def test_a_run_that_goes_back_leaves_its_old_course_behind(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (1, 2, 3):
        save_checkpoint(store, step)
    flip_in_manifest(store.root / "step-000003")
    for _ in range(2):
        back_to = store.get("step-000001").checkpoint
        assert store.set_aside_after(back_to) == ("step-000002", "step-000003")[: 2 if _ == 0 else 1]
        assert (names(store), store.damaged()) == (["step-000001"], ())
        save_checkpoint(store, 2)
    there = sorted(each.name for each in store.root.iterdir())
    assert there == [
        *("step-000001", "step-000002", "step-000002.replaced-1", "step-000002.replaced-2", "step-000003.replaced-1"),
    ]
    store.retain(CheckpointConfig(keep_last=2))
    assert sorted(each.name for each in store.root.iterdir()) == ["step-000001", "step-000002"]


def test_one_whose_removal_was_interrupted_by_a_pin_is_left_behind_too(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step in (1, 2):
        save_checkpoint(store, step)
    store.pin("step-000002")
    (store.root / "step-000002").rename(store.root / ".step-000002.gone")
    assert store.set_aside_after(store.get("step-000001").checkpoint) == ("step-000002",)
    save_checkpoint(store, 2)
    assert (store.root / "step-000002.replaced-1" / "pinned").exists()


def test_readers_never_see_half_of_one_while_they_come_and_go(tmp_path: Path) -> None:
    store, seen, done = make_store(tmp_path), [], threading.Event()
    save_checkpoint(store, 1)
    problems: list[object] = []

    def read() -> None:
        reader = CheckpointStore(store.root)
        while not done.is_set():
            problems.extend(reader.damaged())
            found = reader.latest()
            seen.append(found.checkpoint.manifest.step if found else 0)
            problems.extend(found.passed_over if found else ())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for step in range(2, 42):
        save_checkpoint(store, step)
        store.retain(CheckpointConfig(keep_last=1))
    done.set()
    for each in readers:
        each.join()
    assert problems == []
    assert len(seen) >= 2 and min(seen) >= 1


@pytest.mark.parametrize("moment", [read_checkpoint, Checkpoint.verify])
def test_a_reader_that_is_overtaken_looks_again(moment: Callable[..., object], tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save_checkpoint(store, 1)

    def go_on() -> None:
        save_checkpoint(store, 2)
        assert store.retain(CheckpointConfig(keep_last=1)) == ("step-000001",)

    with just_before(moment, go_on):
        found = CheckpointStore(store.root).latest()
    assert found is not None
    assert (found.checkpoint.name, found.passed_over) == ("step-000002", ())


def test_a_checkpoint_gets_its_name_when_all_of_it_is_on_the_disk(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    draft = store.begin(1)
    files = write_shards(draft, 1)
    draft.write_json("run_state.json", {})
    calls = disk_calls(lambda: draft.commit(files=files, facts=make_facts()))
    part = draft.path
    first = [("sync", str(part / each)) for each in (*SHARDS, "run_state.json")]
    last = [("rename", ""), ("sync", str(store.root))]
    assert calls[:3] == first
    assert calls[3] == ("sync", str(part / "manifest.json"))
    assert calls[4:6] == [("sync", str(part / "learner")), ("sync", str(part))]
    assert calls[6:] == last


def test_a_state_that_is_not_json_or_not_there_is_refused(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(make_store(tmp_path), 1)
    with pytest.raises(CheckpointError, match=r"other\.json must be readable, found No such file"):
        checkpoint.read_json("other.json")
    (checkpoint.path / "run_state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run_state\.json must be JSON"):
        checkpoint.read_json("run_state.json")


def test_numbers_of_a_state_are_read_back_exactly(tmp_path: Path) -> None:
    draft = make_store(tmp_path).begin(1)
    state = {"a": 0.1, "b": 5e-324, "c": 2**63, "text": "\u00e9\ud83d\n", "none": None}
    draft.write_json("run_state.json", state)
    checkpoint = draft.commit(files=(), facts=make_facts())
    assert checkpoint.read_json("run_state.json") == state == json.loads(json.dumps(state))
