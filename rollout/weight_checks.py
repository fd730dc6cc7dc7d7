"""What must hold of a weight layout and a manifest before an engine takes them. No torch: layouts are plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shaping.errors import EngineRefused
from shaping.training import AdapterLayout, BucketLayout, WeightLayout, WeightManifest


def layout_to_plain(layout: WeightLayout) -> dict[str, Any]:
    """Plain data for borders that carry no classes."""
    return asdict(layout)


def layout_from_plain(plain: Mapping[str, Any]) -> WeightLayout:
    adapter = plain["adapter"]
    return WeightLayout(
        adapter=None if adapter is None else AdapterLayout(**{**adapter, "targets": tuple(adapter["targets"])}),
        buckets=tuple(
            BucketLayout(
                names=tuple(each["names"]),
                shapes=tuple(tuple(shape) for shape in each["shapes"]),
                dtype=each["dtype"],
                num_bytes=each["num_bytes"],
            )
            for each in plain["buckets"]
        ),
    )


def check_layout(layout: WeightLayout, expected: Mapping[str, Sequence[int]]) -> None:
    """Refuse a layout that is not exactly the served model, before a byte is received.

    Args:
        expected: shape of every parameter of the served model; tied parameters once.
    Raises:
        EngineRefused: a parameter too many, too few, of another shape, or a bucket of another size than its parameters.
    """
    if layout.adapter is not None:
        expected = adapter_shapes(expected, layout.adapter)
    shapes = {name: tuple(shape) for b in layout.buckets for name, shape in zip(b.names, b.shapes, strict=True)}
    missing = sorted(set(expected) - set(shapes))
    unknown = sorted(set(shapes) - set(expected))
    if missing or unknown:
        raise EngineRefused(
            f"weights must be those of the served model: {len(missing)} missing {missing[:3]}, {len(unknown)} unknown "
            f"{unknown[:3]} (weight layout)"
        )
    for name, shape in shapes.items():
        if shape != tuple(expected[name]):
            raise EngineRefused(f"{name} must have shape {tuple(expected[name])}, got {shape} (weight layout)")
    for index, bucket in enumerate(layout.buckets):
        size = sum(math.prod(shape) for shape in bucket.shapes) * _item_size(bucket)
        if size != bucket.num_bytes:
            raise EngineRefused(f"bucket {index} must hold {size} bytes, got {bucket.num_bytes} (weight layout)")


def adapter_shapes(weights: Mapping[str, Sequence[int]], adapter: AdapterLayout) -> dict[str, tuple[int, ...]]:
    """Shapes of exactly the A and B that these adapters of a model consist of.

    Args:
        weights: shape of every parameter of the model.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in weights.items():
        layer, _, part = name.rpartition(".")
        if part == "weight" and len(shape) == 2 and layer.rpartition(".")[2] in adapter.targets:
            shapes[f"{layer}.lora_A.weight"] = (adapter.rank, shape[1])
            shapes[f"{layer}.lora_B.weight"] = (shape[0], adapter.rank)
    return shapes


def check_manifest(
    manifest: WeightManifest,
    *,
    layout: WeightLayout | None,
    checksums: Sequence[tuple[str, ...]],
    policy_version: int,
) -> None:
    """Refuse to go live with anything but what the manifest promises.

    Args:
        layout: of what is staged; None when nothing is.
        checksums: of what is staged, per receiving process.
        policy_version: being served.
    Raises:
        EngineRefused: nothing staged, another layout, a version that is not newer, or a checksum that differs.
    """
    what = f"policy version {manifest.policy_version}"
    if layout is None:
        raise EngineRefused(f"weights must be staged before they are committed, found none staged ({what})")
    if manifest.policy_version <= policy_version:
        raise EngineRefused(f"a committed version must be newer than {policy_version}, got {manifest.policy_version}")
    if manifest.layout != layout:
        raise EngineRefused(f"the manifest must describe the staged weights, found another layout ({what})")
    for worker, own in enumerate(checksums):
        for index, (mine, theirs) in enumerate(zip(own, manifest.checksums, strict=True)):
            if mine != theirs:
                raise EngineRefused(
                    f"bucket {index} must have checksum {theirs}, received {mine} ({what}, engine process {worker}): "
                    f"the staged weights are dropped, version {policy_version} goes on serving"
                )


def _item_size(bucket: BucketLayout) -> int:
    known = {"float32": 4, "bfloat16": 2, "float16": 2}
    if bucket.dtype not in known:
        raise EngineRefused(f"bucket dtype must be one of {', '.join(known)}, got {bucket.dtype!r} (weight layout)")
    return known[bucket.dtype]
