"""What a failed call to the control actor is to a run: absence, a lost store, or a mistake of the user."""

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from services.hosting import ray_host
from services.hosting.link import ControlAway, RunUnknown
from services.hosting.ray_host import RayTransport
from services.hosting.server import ControlOptions
from shaping.errors import UserError

OPTIONS = ControlOptions(store=":memory:")


class FakeActor:
    """A handle whose calls fail in order, then answer their arguments."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)

    def __getattr__(self, method: str) -> "FakeActor":
        return self

    async def remote(self, *arguments: Any, **named: Any) -> tuple[Any, ...]:
        if self.failures:
            raise self.failures.pop(0)
        return (*arguments, *named.values())


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> list[FakeActor]:
    """Handles that are found, in order."""
    found: list[FakeActor] = []
    monkeypatch.setattr(ray_host, "control_actor", lambda _: found.pop(0))
    return found


def raised(cause: Exception) -> BaseException:
    return RayTaskError("report", f"Traceback\n{type(cause).__name__}", cause)


@pytest.mark.parametrize("error", [ControlAway("the store is away"), RunUnknown("run_1"), UserError("port in use")])
async def test_what_the_control_plane_means_comes_out_as_itself(actors: list[FakeActor], error: Exception) -> None:
    actors.append(FakeActor(raised(error)))
    with pytest.raises(type(error), match=str(error)):
        await RayTransport(OPTIONS).call("report")


async def test_a_failure_inside_the_control_plane_is_an_absence_and_ends_no_run(actors: list[FakeActor]) -> None:
    actors.append(FakeActor(raised(ValueError("a bug"))))
    with pytest.raises(ControlAway, match="ValueError: a bug"):
        await RayTransport(OPTIONS).call("report")


async def test_an_actor_that_was_ended_for_good_is_followed_by_another_one(actors: list[FakeActor]) -> None:
    actors += [FakeActor(ActorDiedError()), FakeActor()]
    transport = RayTransport(OPTIONS)
    with pytest.raises(ControlAway):
        await transport.call("report")
    assert await transport.call("report", 1, 2) == (1, 2)
