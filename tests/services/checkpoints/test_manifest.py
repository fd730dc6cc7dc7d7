"""A manifest is read as it was written, or not at all."""

import hashlib
import json
from typing import Any

import pytest

from services.checkpoints.manifest import Manifest, manifest_bytes, parse_manifest
from shaping.errors import CheckpointError
from shaping.stored_files import StoredFile


def make_manifest(**changes: Any) -> Manifest:
    entries: dict[str, Any] = {
        "name": "step-000010",
        "step": 10,
        "policy_version": 10,
        "run_id": "run_1",
        "recipe_hash": "sha256:00",
        "created_at": "1970-01-01T00:00:00+00:00",
        "lessrl_version": "0.1.0",
        # Exponents whose digits a flipped bit turns into a number beyond float64.
        "metrics": {"accuracy": 0.1, "tiny": 5e-324, "huge": 1e308, "zero": -0.0},
        "logs": {"metrics.jsonl": 123456789012},
        "files": (StoredFile(path="learner/rank-0.bin", num_bytes=3, sha256="ab" * 32),),
    }
    return Manifest(**(entries | changes))


def spelled(content: dict[str, Any]) -> bytes:
    """The one spelling, with the hash that belongs to the content."""

    def spell(each: dict[str, Any]) -> bytes:
        return (json.dumps(each, indent=1, sort_keys=True) + "\n").encode()

    return spell({**content, "sha256": hashlib.sha256(spell(content)).hexdigest()})


def content_of(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest_bytes(manifest))
    del content["sha256"]
    return content


def test_a_manifest_is_read_back_exactly() -> None:
    manifest = make_manifest()
    assert parse_manifest(manifest_bytes(manifest), "m") == manifest
    assert manifest_bytes(manifest) == spelled(content_of(manifest))


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80])
def test_one_flipped_bit_at_any_place_is_refused(mask: int) -> None:
    written = manifest_bytes(make_manifest())
    for position in range(len(written)):
        flipped = bytearray(written)
        flipped[position] ^= mask
        with pytest.raises(CheckpointError, match="checkpoints/m"):
            parse_manifest(bytes(flipped), "checkpoints/m")


def test_a_manifest_cut_at_any_length_or_followed_by_anything_is_refused() -> None:
    written = manifest_bytes(make_manifest())
    for changed in (*(written[:length] for length in range(len(written))), written + b"\n", written + b" "):
        with pytest.raises(CheckpointError, match="its own hash does not agree"):
            parse_manifest(changed, "m")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"step"', "{}", '{"sha256": null}'])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="its own hash does not agree"):
        parse_manifest(text.encode(), "m")


def test_another_spelling_of_the_same_content_is_refused() -> None:
    content = json.loads(manifest_bytes(make_manifest()))
    with pytest.raises(CheckpointError, match="its own hash does not agree"):
        parse_manifest(json.dumps(content).encode(), "m")


def test_an_intact_manifest_of_another_format_is_named_so() -> None:
    with pytest.raises(CheckpointError, match="must have format 1, found 2"):
        parse_manifest(spelled({**content_of(make_manifest()), "format": 2}), "m")


def test_an_intact_manifest_with_other_entries_is_refused() -> None:
    content = content_of(make_manifest())
    outside = [{"path": "../../secret", "num_bytes": 1, "sha256": "ab" * 32}]
    twice = content["files"] * 2
    for changes in ({"extra": 1}, {"files": outside}, {"files": twice}, {"files": [{}]}, {"logs": {"a": -1}}):
        with pytest.raises(CheckpointError, match="must have the entries of format 1"):
            parse_manifest(spelled({**content, **changes}), "m")
    del content["step"]
    with pytest.raises(CheckpointError, match="must have the entries of format 1"):
        parse_manifest(spelled(content), "m")
