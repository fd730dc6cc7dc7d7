"""`lessrl` whose rollout worker is killed once, inside a round: `python struck_run.py MARKER ROUND lessrl-arguments...`

The first request of a group's round number ROUND (counted from 0) is sent, and the worker's process gets SIGKILL while
it samples; MARKER is written just before, so that no later request is struck.
"""

import asyncio
import sys
from pathlib import Path

import psutil

from services.cli import main
from services.ports import RoundHandle
from services.ray_ports import RayRollout
from shaping.records import GroupRequest

ACTOR_TITLE = "ray::RolloutActor"


def strike_in(round_index: int, marker: Path) -> None:
    """Stand between the orchestrator and its rollout workers."""
    generate = RayRollout.generate

    async def struck(self: RayRollout, request: GroupRequest) -> RoundHandle:
        if request.round_index != round_index or marker.exists():
            return await generate(self, request)
        marker.touch()
        asked = asyncio.ensure_future(generate(self, request))
        # The request is on its way once the task has begun.
        await asyncio.sleep(0)
        for each in psutil.Process().children(recursive=True):
            if each.cmdline()[:1] and each.cmdline()[0].startswith(ACTOR_TITLE):
                each.kill()
        return await asked

    RayRollout.generate = struck  # type: ignore[method-assign]


if __name__ == "__main__":
    strike_in(int(sys.argv[2]), Path(sys.argv[1]))
    main(sys.argv[3:])
