"""Which node each actor of a run gets, before there is a cluster. Pure arithmetic: knows no recipe and no Ray.

A bundle is what one actor claims; it lies on one node as a whole. The order is that of Ray's PACK strategy, so that the
answer is where Ray would put them on an empty cluster: most GPUs first, then most CPUs; the largest bundle takes the
node that it leaves freest, all others that fit follow it there, and that node is not looked at again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SLACK = 1e-9
"""Fractions like 0.1 add up to a little more than they say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one node offers.

    Args:
        cpus, gpus: that Ray offers there.
        memory_bytes: of the node.
        gpu_memory_bytes: of each of its GPUs.
    """

    name: str
    cpus: float
    gpus: float
    memory_bytes: int
    gpu_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one actor claims of one node."""

    role: str
    actor: str
    cpus: float
    gpus: float

    def fits(self, cpus: float, gpus: float) -> bool:
        """Whether so much is enough for it."""
        return self.cpus <= cpus + SLACK and self.gpus <= gpus + SLACK


@dataclass(slots=True, kw_only=True)
class _Room:
    """What is left of a node."""

    cpus: float
    gpus: float

    def freest_after(self, bundle: Bundle) -> float:
        """Sum over what the bundle claims of the share that stays free; negative where it does not fit."""
        if not bundle.fits(self.cpus, self.gpus):
            return -1.0
        pairs = ((bundle.cpus, self.cpus), (bundle.gpus, self.gpus))
        return sum((has - claimed) / has for claimed, has in pairs if claimed and has)

    def take(self, bundle: Bundle) -> None:
        self.cpus -= bundle.cpus
        self.gpus -= bundle.gpus


def pack(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> tuple[int | None, ...]:
    """Place every bundle that finds room.

    Returns:
        For each bundle, in the order given, the index of its node; None where it found no room.
    """
    places: list[int | None] = [None] * len(bundles)
    rooms = {index: _Room(cpus=node.cpus, gpus=node.gpus) for index, node in enumerate(nodes)}
    waiting = sorted(range(len(bundles)), key=lambda each: (-bundles[each].gpus, -bundles[each].cpus))
    while waiting and rooms:
        largest = bundles[waiting[0]]
        chosen = max(rooms, key=lambda index: rooms[index].freest_after(largest))
        room = rooms[chosen]
        if room.freest_after(largest) < 0:
            break
        left = []
        for each in waiting:
            if bundles[each].fits(room.cpus, room.gpus):
                room.take(bundles[each])
                places[each] = chosen
            else:
                left.append(each)
        waiting = left
        del rooms[chosen]
    return tuple(places)


def first_without_device(bundles: Iterable[Bundle], num_gpus: int) -> Bundle | None:
    """The first bundle of one node that finds no GPU of its own; none where all do.

    Ray chooses a node by its sum of free GPUs alone, and then gives whole ones, or a part of one: of that which has
    least left and still enough. Bundles that fail there wait for ever, though other nodes have room.

    Args:
        bundles: in the order in which they are asked for.
    """
    free = [1.0] * num_gpus
    for bundle in bundles:
        whole = int(bundle.gpus + SLACK)
        parts = [1.0] * whole + ([part] if (part := bundle.gpus - whole) > SLACK else [])
        for part in parts:
            enough = [index for index, left in enumerate(free) if left + SLACK >= part]
            if not enough:
                return bundle
            free[min(enough, key=lambda index: free[index])] -= part
    return None
