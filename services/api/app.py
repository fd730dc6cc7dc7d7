"""The HTTP application of a control plane, put together from its parts; each app has a control plane of its own."""

from collections.abc import Mapping

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.api.border import Border, BorderConfig
from services.api.health import Check, health_router, installed
from services.api.problems import install_handlers
from services.api.runs import runs_router
from services.control import ControlPlane


def create_app(
    control: ControlPlane,
    *,
    registry: CollectorRegistry,
    border: BorderConfig | None = None,
    checks: Mapping[str, Check] | None = None,
) -> FastAPI:
    """The application.

    Args:
        registry: what /metrics shows.
        border: Host names and body limit; loopback names only unless said otherwise.
        checks: what /readyz asks besides the control plane itself.
    """
    app = FastAPI(
        title="lessrl control plane", version=installed("lessrl") or "unknown", docs_url="/docs", redoc_url=None
    )
    app.include_router(health_router(registry=registry, checks={**control.checks, **(checks or {})}))
    app.include_router(runs_router(control))
    install_handlers(app)
    app.add_middleware(Border, config=border or BorderConfig())
    return app
