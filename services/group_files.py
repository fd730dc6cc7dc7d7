"""Shaped groups in one file: every array of their training samples bit for bit, and their summaries.

A safetensors file without pickles. One tensor per field holds that field of all samples, one after another; the header
holds the rest as JSON. Written and read where the arrays are, by a shaping worker.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from learner.batch_plan import SampleSize
from services.durable_files import sync
from services.ports import ShapedSummary
from shaping.checks import require, split_rows
from shaping.errors import CheckpointError, RecordError
from shaping.metrics import metrics_from_plain, plain_metrics
from shaping.stored_files import StoredFile, stored_file
from shaping.training import TrainingSample

SavedGroup = tuple[ShapedSummary, tuple[TrainingSample, ...]]

FORMAT = "lessrl-groups-2"
HEADER = "lessrl"
TOKEN_FIELDS: dict[str, type[np.generic]] = {
    "token_ids": np.int32,
    "loss_mask": np.bool_,
    "behavior_logprobs": np.float32,
    "advantages": np.float32,
    "entropies": np.float32,
    "token_sources": np.uint8,
}
SAMPLE_FIELDS = ("num_tokens", "rollout_index", "min_policy_version", "hint_copies")


def write_groups(path: Path, groups: Sequence[SavedGroup]) -> StoredFile:
    """Write groups that wait to be trained; on the disk when this returns.

    Args:
        path: replaced, if it exists.
    Raises:
        RecordError: a group that was dropped, or whose summary is of other samples.
        CheckpointError: the file could not be written.
    """
    for summary, its in groups:
        _check(summary, its)
    samples = [sample for _, its in groups for sample in its]
    # An empty array in front gives a file without groups its types.
    tensors = {
        name: np.concatenate([np.zeros(0, dtype), *(getattr(each, name) for each in samples)])
        for name, dtype in TOKEN_FIELDS.items()
    }
    tensors |= {name: np.array([getattr(each, name) for each in samples], np.int64) for name in SAMPLE_FIELDS}
    # One entry: safetensors writes several in an order that changes from call to call.
    header = json.dumps({"format": FORMAT, "groups": [_plain(summary) for summary, _ in groups]})
    try:
        save_file(tensors, path, metadata={HEADER: header})
        sync(path)
        return stored_file(path.parent, path.name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} must be written whole, found: {error} ({path})") from error


def read_groups(path: Path) -> tuple[SavedGroup, ...]:
    """Read what `write_groups` wrote, in order.

    Raises:
        CheckpointError: missing, damaged, or of another format, an older one included. Changed numbers that break no
            rule of a record are for the manifest's hash to find.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            found = header.get("format")
            rule = f"format must be {FORMAT}, got {found}: the version of lessrl that wrote the file reads it"
            require(found == FORMAT, rule, "header")
            tensors = {name: file.get_tensor(name) for name in (*TOKEN_FIELDS, *SAMPLE_FIELDS)}
        summaries = [_summary(each) for each in header["groups"]]
        samples = iter(_samples(tensors, [each.group_id for each in summaries for _ in each.samples]))
        groups = tuple((each, tuple(next(samples) for _ in each.samples)) for each in summaries)
        for summary, its in groups:
            _check(summary, its)
        return groups
    # What a header made of other bytes leads to; each record's own check is a RecordError, a ValueError.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path.name} must hold groups as they were saved, found: {error} ({path})") from error


def _check(summary: ShapedSummary, samples: tuple[TrainingSample, ...]) -> None:
    where = f"group {summary.group_id}"
    require(summary.drop is None, "a group that is saved must wait to be trained, found a dropped one", where)
    owners = {each.group_id for each in samples} - {summary.group_id}
    require(not owners, f"samples must be the group's own, found those of {sorted(owners)}", where)
    expected = [(each.sample_index, each.num_tokens, each.num_valid_tokens) for each in summary.samples]
    found = [(index, each.num_tokens, each.num_valid_tokens) for index, each in enumerate(samples)]
    require(found == expected, "the summary must give the sizes of its samples", where)


def _plain(summary: ShapedSummary) -> dict[str, Any]:
    return {
        "group_id": summary.group_id,
        "samples": [[each.num_tokens, each.num_valid_tokens] for each in summary.samples],
        "metrics": plain_metrics(summary.metrics),
        "num_correct": summary.num_correct,
        "num_scored": summary.num_scored,
        "min_policy_version": summary.min_policy_version,
    }


def _summary(plain: dict[str, Any]) -> ShapedSummary:
    sizes = tuple(
        SampleSize(group_index=0, sample_index=index, num_tokens=num_tokens, num_valid_tokens=num_valid_tokens)
        for index, (num_tokens, num_valid_tokens) in enumerate(plain.pop("samples"))
    )
    metrics = metrics_from_plain(plain.pop("metrics"))
    return ShapedSummary(**plain, samples=sizes, metrics=metrics, drop=None)


def _samples(tensors: dict[str, NDArray[Any]], group_ids: Sequence[str]) -> list[TrainingSample]:
    """Samples whose arrays are views of the tensors."""
    lengths, rollout_indices, versions, copies = (tensors[name].tolist() for name in SAMPLE_FIELDS)
    if min(lengths, default=0) < 0 or any(len(tensors[name]) != sum(lengths) for name in TOKEN_FIELDS):
        raise RecordError(f"arrays must have {sum(lengths)} tokens in samples of >= 0 tokens (group file)")
    columns = [split_rows(tensors[name], lengths) for name in TOKEN_FIELDS]
    return [
        TrainingSample(
            group_id=group_id,
            rollout_index=rollout_index,
            min_policy_version=version,
            hint_copies=num_copies,
            **dict(zip(TOKEN_FIELDS, arrays, strict=True)),
        )
        for group_id, rollout_index, version, num_copies, *arrays in zip(
            group_ids, rollout_indices, versions, copies, *columns, strict=True
        )
    ]
