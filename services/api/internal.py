"""What the process of a run says to the control plane that launched it, and hears. No part of the public API.

The other end is services/hosting/http_link.py; both are of one version.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.api.auth import Role
from services.api.gate import INTERNAL_PREFIX, needs
from services.api.problems import Problem
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.hosting.direct import DirectTransport
from services.hosting.link import ControlAway, RunUnknown
from services.hosting.wire import dump_intent, load_description, load_reports
from shaping.errors import RecordError

_PAUSE, _RESUME, _CANCEL = TypeAdapter(PauseRequest), TypeAdapter(ResumeRequest), TypeAdapter(CancelRequest)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Register(_Body):
    description: dict[str, Any]
    link_id: str
    resumed: bool


class _Remember(_Body):
    reports: list[dict[str, Any]]


class _Reports(_Body):
    link_id: str
    first_sequence: int
    reports: list[dict[str, Any]]


class _Question(_Body):
    generation: int
    wait_seconds: float


class _Call(_Body):
    request: dict[str, Any]
    caller: str


def internal_router(transport: DirectTransport) -> APIRouter:
    """Paths below /internal/v1/runs, left out of the OpenAPI."""
    router = APIRouter(
        prefix=f"{INTERNAL_PREFIX}v1/runs", include_in_schema=False, dependencies=[Depends(needs(Role.OPERATE))]
    )
    _add_reports(router, transport)
    _add_calls(router, transport)
    return router


def _add_reports(router: APIRouter, transport: DirectTransport) -> None:
    @router.post("/{run_id}/register")
    async def register(run_id: str, body: _Register) -> dict[str, Any]:
        del run_id
        with _answers():
            await transport.register(load_description(body.description), body.link_id, resumed=body.resumed)
        return {}

    @router.post("/{run_id}/remember")
    async def remember(run_id: str, body: _Remember) -> dict[str, Any]:
        with _answers():
            await transport.remember(run_id, load_reports(body.reports))  # type: ignore[arg-type]
        return {}

    @router.post("/{run_id}/reports")
    async def report(run_id: str, body: _Reports) -> dict[str, Any]:
        with _answers():
            following = await transport.report(run_id, body.link_id, body.first_sequence, load_reports(body.reports))
        return {"next_sequence": following}

    @router.post("/{run_id}/intent")
    async def intent(run_id: str, body: _Question) -> dict[str, Any]:
        with _answers():
            try:
                async with asyncio.timeout(body.wait_seconds):
                    found = await transport.intent_after(run_id, body.generation)
            except TimeoutError:
                return {"intent": None}
        return {"intent": dump_intent(found)}


def _add_calls(router: APIRouter, transport: DirectTransport) -> None:
    @router.post("/{run_id}/pause")
    async def pause(run_id: str, body: _Call) -> dict[str, Any]:
        with _answers():
            return {"refused": await transport.pause(run_id, _PAUSE.validate_python(body.request), body.caller)}

    @router.post("/{run_id}/resume")
    async def resume(run_id: str, body: _Call) -> dict[str, Any]:
        with _answers():
            return {"refused": await transport.resume(run_id, _RESUME.validate_python(body.request), body.caller)}

    @router.post("/{run_id}/cancel")
    async def cancel(run_id: str, body: _Call) -> dict[str, Any]:
        with _answers():
            return {"refused": await transport.cancel(run_id, _CANCEL.validate_python(body.request), body.caller)}


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except RunUnknown as error:
        raise Problem(404, "run-not-found", f"no run {error}") from error
    except ControlAway as error:
        raise Problem(503, "not-ready", str(error)) from error
    except RecordError as error:
        raise Problem(422, "validation", str(error)) from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise Problem(422, "validation", told) from error
