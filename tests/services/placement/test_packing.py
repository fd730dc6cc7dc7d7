"""Which node each actor gets: never more than a node has, and where Ray's PACK strategy would put them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.placement.packing import SLACK, Bundle, Node, first_without_device, pack

QUARTERS = st.integers(0, 40).map(lambda number: number / 4)


def make_node(*, cpus: float = 8, gpus: float = 0, name: str = "node") -> Node:
    return Node(name=name, cpus=cpus, gpus=gpus, memory_bytes=0, gpu_memory_bytes=0)


def make_bundle(cpus: float, gpus: float = 0) -> Bundle:
    return Bundle(role="any", actor="any-0", cpus=cpus, gpus=gpus)


bundles_strategy = st.lists(st.builds(make_bundle, QUARTERS, QUARTERS), min_size=1, max_size=20)
nodes_strategy = st.lists(
    st.builds(lambda cpus, gpus: make_node(cpus=cpus, gpus=gpus), QUARTERS, QUARTERS), min_size=1, max_size=8
)


@given(bundles_strategy, nodes_strategy)
def test_no_node_gives_more_than_it_has(bundles: list[Bundle], nodes: list[Node]) -> None:
    places = pack(bundles, nodes)
    for index, node in enumerate(nodes):
        here = [bundle for bundle, place in zip(bundles, places, strict=True) if place == index]
        assert sum(bundle.cpus for bundle in here) <= node.cpus + SLACK * len(here)
        assert sum(bundle.gpus for bundle in here) <= node.gpus + SLACK * len(here)


@given(bundles_strategy, nodes_strategy)
def test_whoever_finds_no_room_is_there_only_when_the_largest_of_them_fits_nowhere(
    bundles: list[Bundle], nodes: list[Node]
) -> None:
    places = pack(bundles, nodes)
    outside = [bundle for bundle, place in zip(bundles, places, strict=True) if place is None]
    if not outside:
        return
    largest = max(outside, key=lambda bundle: (bundle.gpus, bundle.cpus))
    taken: Counter[tuple[int, str]] = Counter()
    for bundle, place in zip(bundles, places, strict=True):
        if place is not None:
            taken.update({(place, "cpus"): bundle.cpus, (place, "gpus"): bundle.gpus})
    for index, node in enumerate(nodes):
        # More slack than a placement has: the sums here are added in another order.
        cpus, gpus = node.cpus - taken[index, "cpus"], node.gpus - taken[index, "gpus"]
        assert largest.cpus > cpus or largest.gpus > gpus


@given(bundles_strategy)
def test_one_node_with_room_for_all_takes_all(bundles: list[Bundle]) -> None:
    enough = make_node(cpus=sum(each.cpus for each in bundles), gpus=sum(each.gpus for each in bundles))
    assert pack(bundles, [enough]) == (0,) * len(bundles)


def test_most_gpus_are_placed_first_so_that_an_engine_finds_them_together() -> None:
    # Eight single GPUs first would leave four on each node, and no node for the engine of eight.
    bundles = [make_bundle(1, 1)] * 8 + [make_bundle(1, 8)]
    nodes = [make_node(cpus=96, gpus=8), make_node(cpus=96, gpus=8)]
    assert pack(bundles, nodes) == (*[1] * 8, 0)


def test_among_as_many_gpus_most_cpus_are_placed_first() -> None:
    bundles = [make_bundle(4, 1)] * 2 + [make_bundle(8, 1)] * 2
    nodes = [make_node(cpus=96, gpus=2), make_node(cpus=96, gpus=2)]
    assert pack(bundles, nodes) == (1, 1, 0, 0)


def test_the_largest_bundle_takes_the_node_that_it_leaves_freest() -> None:
    # Left of the first node: (4 - 2) / 4 of its CPUs; of the second 6 / 8.
    assert pack([make_bundle(2)], [make_node(cpus=4), make_node(cpus=8)]) == (1,)


def test_who_needs_no_gpu_follows_to_a_node_that_has_cpus_left() -> None:
    bundles = [make_bundle(2, 1), make_bundle(3)]
    assert pack(bundles, [make_node(cpus=4, gpus=1), make_node(cpus=4)]) == (0, 1)


def test_tenths_that_add_up_to_a_little_more_than_they_say_still_fit() -> None:
    assert 0.1 + 0.2 > 0.3
    assert pack([make_bundle(0.1), make_bundle(0.2)], [make_node(cpus=0.3)]) == (0, 0)


def test_parts_of_gpus_are_parts_of_one() -> None:
    # 3 x 0.6 are less than two GPUs, and no GPU holds two of them.
    sixths = [make_bundle(1, 0.6) for _ in range(3)]
    assert first_without_device(sixths, 2) is sixths[2]
    assert first_without_device(sixths, 3) is None
    tenths = [make_bundle(1, 0.1) for _ in range(20)]
    assert first_without_device(tenths, 2) is None


def test_a_part_goes_where_least_is_left_and_whole_gpus_stay_whole() -> None:
    half, most, whole = make_bundle(1, 0.5), make_bundle(1, 0.7), make_bundle(1, 1)
    # 0.5 and 0.5 share the first, so that the second is whole.
    assert first_without_device([half, half, whole], 2) is None
    # 0.7 takes the first, 0.5 the second.
    assert first_without_device([most, half, whole], 2) is whole
    assert first_without_device([make_bundle(1, 8)], 8) is None
