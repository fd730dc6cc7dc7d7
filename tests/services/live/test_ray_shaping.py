"""A shaping worker over Ray that is started again has what was changed live, without a Ray."""

from types import SimpleNamespace
from typing import Any

from recipe_builders import make_recipe

from services.ray_ports import RayShaping


class RememberedCalls:
    """An actor of a shaping worker: what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> SimpleNamespace:
        async def answer(*arguments: Any) -> None:
            self.asked.append((method, *arguments))

        return SimpleNamespace(remote=answer)


async def test_a_shaping_worker_that_is_started_again_has_the_recipe_that_holds_by_then() -> None:
    actors: list[RememberedCalls] = []

    def make() -> RememberedCalls:
        actors.append(RememberedCalls())
        return actors[-1]

    port = RayShaping(make, "shaping-0")
    await port.start()
    assert actors[0].asked == [("start",)]
    first, second = make_recipe({"run.steps": 8}), make_recipe({"run.steps": 9})
    await port.configure(first)
    await port.configure(second)
    assert actors[0].asked[1:] == [("configure", first), ("configure", second)]
    port.actor = make()
    await port.start()
    assert actors[1].asked == [("start",), ("configure", second)]
