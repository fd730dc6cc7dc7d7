"""Rollout and shaping workers that die, hang and are slow at random moments, on a virtual clock."""

import asyncio
import random
from typing import Any

from fake_roles import FakeRollout, FakeShaping

from services.ports import RoundHandle
from shaping.errors import EngineRefused, RoleDied
from shaping.records import GroupRequest
from shaping.training import WeightLayout, WeightManifest

HANGS_S = 1e6
SECONDS = {"generate": 2.0}


class Stormy:
    """A role whose every call takes a random time; a dead one fails every call until it is restarted.

    Args:
        chance: of everything that happens.
        dies, dies_later, hangs: how probable that is at one call.
    """

    role = "rollout"
    calls: list[str]

    def __init__(
        self, worker_id: str, *, chance: random.Random, dies: float, dies_later: float, hangs: float, **more: Any
    ) -> None:
        super().__init__(worker_id, **more)
        self._chance = chance
        self._dies, self._dies_later, self._hangs = dies, dies_later, hangs
        self._is_dead = False
        self._life = 0

    async def called(self, method: str) -> None:
        if method == "restart":
            self.calls.append(method)
            self._life += 1
            self._is_dead = False
            await asyncio.sleep(3.0 * self._chance.random())
            return
        life, drawn = self._life, self._chance.random()
        if drawn < self._dies:
            self._is_dead = True
        elif drawn < self._dies + self._dies_later:
            asyncio.get_running_loop().call_later(5.0 * self._chance.random(), self._die, life)
        self._fail_if_dead(life)
        is_stuck = self.role == "rollout" and method != "ping" and drawn > 1 - self._hangs
        await asyncio.sleep(HANGS_S if is_stuck else SECONDS.get(method, 0.3) * self._chance.random())
        self.calls.append(method)
        self._fail_if_dead(life)

    def _die(self, life: int) -> None:
        self._is_dead = self._is_dead or life == self._life

    def _fail_if_dead(self, life: int) -> None:
        if self._is_dead or life != self._life:
            raise RoleDied(role=self.role, cause="its process ended")


class StormyRollout(Stormy, FakeRollout):
    """Refuses, as a real engine does, what a restarted one knows nothing of."""

    async def generate(self, request: GroupRequest) -> RoundHandle:
        life = self._life
        while self.is_paused:
            self._fail_if_dead(life)
            await asyncio.sleep(0.05)
        return await super().generate(request)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        self._require(self.is_connected, "connected")
        await super().stage_weights(layout, policy_version)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        self._require(self.is_staged, "staged")
        await super().verify_weights(manifest)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        self._require(self.is_staged and self.is_verified, "verified")
        await super().commit_weights(manifest)

    @staticmethod
    def _require(is_so: bool, what: str) -> None:
        if not is_so:
            raise EngineRefused(f"weights must be {what} first")


class StormyShaping(Stormy, FakeShaping):
    role = "shaping"
