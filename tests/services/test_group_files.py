"""Groups in a file come back bit for bit, or not at all."""

import dataclasses
import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from disk_calls import disk_calls
from group_builders import make_group, make_rollout
from group_file_builders import make_saved_groups
from recipe_builders import IN_PROCESS, make_recipe
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from services.group_files import SavedGroup, read_groups, write_groups
from services.roles.shaping import build_shaping_role
from shaping.errors import CheckpointError, RecordError
from shaping.groups import Drop, DropReason
from shaping.training import TrainingSample


def assert_same(found: Sequence[SavedGroup], expected: Sequence[SavedGroup]) -> None:
    """Equal records, equal types, and equal bits: 0 and -0 differ."""
    assert [summary for summary, _ in found] == [summary for summary, _ in expected]
    for (_, samples), (_, others) in zip(found, expected, strict=True):
        assert len(samples) == len(others)
        for sample, other in zip(samples, others, strict=True):
            for field in dataclasses.fields(TrainingSample):
                value, wanted = getattr(sample, field.name), getattr(other, field.name)
                assert type(value) is type(wanted), field.name
                if isinstance(value, np.ndarray):
                    assert (value.dtype, value.tobytes()) == (wanted.dtype, wanted.tobytes()), field.name
                else:
                    assert value == wanted, field.name


@pytest.mark.parametrize("seed", range(5))
def test_groups_come_back_bit_for_bit_and_in_order(seed: int, tmp_path: Path) -> None:
    groups = make_saved_groups(8, seed=seed)
    stored = write_groups(tmp_path / "groups.safetensors", groups)
    assert_same(read_groups(tmp_path / "groups.safetensors"), groups)
    content = (tmp_path / "groups.safetensors").read_bytes()
    assert (stored.path, stored.num_bytes) == ("groups.safetensors", len(content))
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert write_groups(tmp_path / "again", groups).sha256 == stored.sha256


def test_what_a_shaping_worker_made_comes_back(tmp_path: Path) -> None:
    shaping = {"rewards": ["numeric_answer"], "segments": {"min_length": 2}, "verifiers": IN_PROCESS}
    role = build_shaping_role(make_recipe({"shaping": shaping}))
    rng, groups = np.random.default_rng(0), []
    for ordinal in range(4):
        rollouts = [
            make_rollout(
                rng.integers(0, 9, size).tolist(),
                entropies=rng.exponential(0.3, size).tolist(),
                text="5" if size % 2 else "6",
                hint_ids=(1, 2),
                policy_version=ordinal,
            )
            for size in rng.integers(3, 20, 4).tolist()
        ]
        groups.append(role.shape((make_group(rollouts, group_id=f"g{ordinal:08d}"),)))
    assert any(samples for _, samples in groups)
    kept = [(summary, samples) for summary, samples in groups if summary.drop is None]
    role.save_groups(kept, str(tmp_path / "groups.safetensors"))
    assert_same(role.load_groups(str(tmp_path / "groups.safetensors"), len(kept)), kept)


def test_no_groups_are_a_file_too(tmp_path: Path) -> None:
    write_groups(tmp_path / "groups.safetensors", ())
    assert read_groups(tmp_path / "groups.safetensors") == ()


def test_a_dropped_group_and_one_with_samples_of_another_are_refused(tmp_path: Path) -> None:
    (summary, samples), (_, others) = make_saved_groups(2)
    dropped = dataclasses.replace(summary, drop=Drop(reason=DropReason.NO_SIGNAL))
    for group, reason in (
        ((dropped, samples), "must wait to be trained"),
        ((summary, others[:1]), "must be the group's own, found those of \\['g00000001'\\]"),
        ((summary, ()), "sizes of its samples"),
        ((dataclasses.replace(summary, samples=()), samples), "sizes of its samples"),
    ):
        with pytest.raises(RecordError, match=reason):
            write_groups(tmp_path / "groups.safetensors", [group])
    assert not (tmp_path / "groups.safetensors").exists()


def test_a_flipped_byte_in_the_header_is_refused_or_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "groups.safetensors"
    write_groups(path, make_saved_groups(2))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    refused = 0
    for position in range(8 + length):
        flipped = bytearray(content)
        flipped[position] ^= 0x01
        path.write_bytes(flipped)
        try:
            read_groups(path)
        except CheckpointError as error:
            assert "groups.safetensors must hold groups as they were saved" in str(error)
            refused += 1
    # What is not refused is another digit of a metric or another letter of an id; the manifest's hash finds those.
    assert refused > (8 + length) / 2


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "groups.safetensors"
    write_groups(path, make_saved_groups(2))
    content = path.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="must hold groups as they were saved"):
            read_groups(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"groups\.safetensors must hold groups"):
        read_groups(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_ids", np.zeros(3, np.int32)),
        ("entropies", np.full(3, np.nan, np.float32)),
        ("num_tokens", np.array([-1], np.int64)),
        ("num_tokens", np.array([2, 2], np.int64)),
        ("rollout_index", np.array([0, 1, 2], np.int64)),
        ("hint_copies", np.array([0], np.int64)),
        ("loss_mask", None),
    ],
)
def test_arrays_that_do_not_fit_the_header_are_refused(
    name: str,
    value: np.ndarray | None,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    path = tmp_path / "groups.safetensors"
    write_groups(path, make_saved_groups(1))
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path, metadata=header)
    with pytest.raises(CheckpointError, match="must hold groups as they were saved"):
        read_groups(path)


def test_a_summary_that_gives_other_sizes_than_the_samples_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "groups.safetensors"
    write_groups(path, make_saved_groups(1))
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    tensors["loss_mask"] = np.zeros_like(tensors["loss_mask"])
    save_file(tensors, path, metadata=header)
    with pytest.raises(CheckpointError, match="must give the sizes of its samples"):
        read_groups(path)


def test_groups_are_on_the_disk_of_the_worker_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "groups.safetensors"
    assert disk_calls(lambda: write_groups(path, make_saved_groups(1))) == [("sync", str(path))]


def test_another_file_of_tensors_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "policy.safetensors")
    with pytest.raises(CheckpointError, match="format must be lessrl-groups-2, got None"):
        read_groups(tmp_path / "policy.safetensors")


def test_a_file_of_an_older_format_is_refused_and_says_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "groups.safetensors"
    write_groups(path, make_saved_groups(2))
    tensors = load_file(path)
    del tensors["hint_copies"]
    with safe_open(path, framework="numpy") as file:
        header = {"lessrl": file.metadata()["lessrl"].replace("lessrl-groups-2", "lessrl-groups-1")}
    save_file(tensors, path, metadata=header)
    with pytest.raises(
        CheckpointError, match="got lessrl-groups-1: the version of lessrl that wrote the file reads it"
    ):
        read_groups(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"groups\.safetensors must be written whole, found: .*No such file"):
        write_groups(tmp_path / "missing" / "groups.safetensors", make_saved_groups(1))
