"""How the training loop waits: for a batch or an evaluation, and for whatever else it alone may see to meanwhile."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.bell import Bell
from services.evaluation.in_run import RunEvaluations
from services.pool import Pool
from services.ports import RolloutPort


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Something that only the training loop may do: it must not train meanwhile."""

    is_due: Callable[[], bool]
    attend: Callable[[], Awaitable[None]]


class Waiting:
    """Waits of the training loop at step borders.

    Args:
        catch_up: brings engines that came back to a version.
    """

    def __init__(
        self,
        bell: Bell,
        evaluations: RunEvaluations,
        pool: Pool[RolloutPort],
        *,
        catch_up: Callable[[int], Awaitable[None]],
    ) -> None:
        self._bell = bell
        self._evaluations = evaluations
        self._pool = pool
        self._catch_up = catch_up

    async def until(self, holds: Callable[[], bool], version: int, duties: Sequence[Duty]) -> None:
        """Until this holds, with no duty due. Engines that come back are brought to the learner's version meanwhile.

        Args:
            version: of the learner.
        """
        evaluations, pool = self._evaluations, self._pool

        def is_called() -> bool:
            return bool(pool.behind) or evaluations.has_engines_to_give_back or any(each.is_due() for each in duties)

        while True:
            await self._bell.wait_until(lambda: holds() or is_called())
            evaluations.give_back(version)
            duty = next((each for each in duties if each.is_due()), None)
            if duty is not None:
                await duty.attend()
            elif holds():
                return
            elif pool.behind:
                await self._catch_up(version)
