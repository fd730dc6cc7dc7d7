"""Who has the least to do, found in O(log n): where the next group goes among a thousand workers."""

import heapq
from collections.abc import Container, Iterable


class LeastLoaded:
    """Names with a load each; of those with the same load, the one that was inserted first comes first.

    Args:
        names: the first members, in order.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        # Of members and of removed names alike: work that goes on after a removal is counted down to nothing.
        self._loads: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._next_place = 0
        # (load, place, name); an entry whose load or place is no longer the name's own is passed over.
        self._heap: list[tuple[int, int, str]] = []
        for name in names:
            self.insert(name)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def load(self, name: str) -> int:
        """What a name has to do, member or not."""
        return self._loads.get(name, 0)

    def insert(self, name: str) -> None:
        """A new member, behind all others of its load.

        Raises:
            ValueError: already a member.
        """
        if name in self._places:
            raise ValueError(f"a name must be inserted once, got {name!r} again (LeastLoaded)")
        self._places[name] = self._next_place
        self._next_place += 1
        self.add(name, 0)

    def remove(self, name: str) -> None:
        """No member until it is inserted again.

        Raises:
            KeyError: not a member.
        """
        del self._places[name]

    def add(self, name: str, amount: int) -> None:
        """More to do, or less."""
        load = self._loads[name] = self._loads.get(name, 0) + amount
        place = self._places.get(name)
        if place is None:
            return
        heapq.heappush(self._heap, (load, place, name))
        # Entries that never come to the top are not passed over by `pick`: without this they would pile up.
        if len(self._heap) > 4 * len(self._places) + 16:
            self._heap = [(self._loads[each], place, each) for each, place in self._places.items()]
            heapq.heapify(self._heap)

    def pick(self, avoid: Container[str] = ()) -> str:
        """The member with the least to do, one outside `avoid` where there is one.

        Raises:
            IndexError: there is no member.
        """
        avoided: list[tuple[int, int, str]] = []
        found: str | None = None
        while self._heap:
            load, place, name = self._heap[0]
            is_current = self._places.get(name) == place and self._loads[name] == load
            if is_current and name not in avoid:
                found = name
                break
            heapq.heappop(self._heap)
            if is_current:
                avoided.append((load, place, name))
        for entry in avoided:
            heapq.heappush(self._heap, entry)
        if found is None and not avoided:
            raise IndexError("somebody must be there to be picked, found no member (LeastLoaded)")
        return avoided[0][2] if found is None else found
