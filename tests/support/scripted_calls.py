"""Fakes whose calls a test fails, or holds until it lets them go."""

import asyncio
from collections import defaultdict

from report_builders import Clock

Answer = BaseException | asyncio.Event | None


class Scripted:
    """Counts calls, and lets a test fail or hold them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.calls: list[str] = []
        self.script: dict[str, list[Answer]] = defaultdict(list)
        self.seconds: dict[str, float] = {}
        self._clock = clock or Clock()

    async def called(self, method: str) -> None:
        self.calls.append(method)
        answers = self.script[method]
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            await answer.wait()
        else:
            await asyncio.sleep(0)
        self._clock.now += self.seconds.get(method, 0.0)
