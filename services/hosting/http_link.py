"""Transport of a run's process that a served control plane has started: its own routes over HTTP, JSON alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import httpx

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.hosting.link import ControlAway, RunUnknown
from services.hosting.wire import dump_description, dump_reports, load_intent
from services.reports import ControlReport, Intent, RunDescription, RunReport

INTERNAL = "/internal/v1/runs"
WAIT_SECONDS = 20.0
"""How long a question for an intent stays open before it is asked anew."""

CALL_SECONDS = 30.0


class HttpTransport:
    """Transport over HTTP.

    Args:
        token: of a process that this control plane started.
    """

    def __init__(self, url: str, token: str) -> None:
        self.address = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=CALL_SECONDS)

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        body = {"description": dump_description(description), "link_id": link_id, "resumed": resumed}
        await self._post(f"/{description.run_id}/register", body)

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        await self._post(f"/{run_id}/remember", {"reports": dump_reports(reports)})

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        body = {"link_id": link_id, "first_sequence": first_sequence, "reports": dump_reports(reports)}
        return int((await self._post(f"/{run_id}/reports", body))["next_sequence"])

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        while True:
            body = {"generation": generation, "wait_seconds": WAIT_SECONDS}
            answer = await self._post(f"/{run_id}/intent", body)
            if answer["intent"] is not None:
                return load_intent(answer["intent"])

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        return str((await self._post(f"/{run_id}/pause", {"request": asdict(request), "caller": caller}))["refused"])

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str:
        return str((await self._post(f"/{run_id}/resume", {"request": asdict(request), "caller": caller}))["refused"])

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str:
        return str((await self._post(f"/{run_id}/cancel", {"request": asdict(request), "caller": caller}))["refused"])

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.post(f"{INTERNAL}{path}", json=body)
        except (httpx.HTTPError, asyncio.IncompleteReadError) as error:
            raise ControlAway(f"{type(error).__name__} at {self.address}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise RunUnknown(path)
        if response.is_error:
            raise ControlAway(f"{response.status_code} from {self.address}: {response.text[:200]}")
        answer: dict[str, Any] = response.json()
        return answer
