"""The HTTP application of a control plane, put together from its parts; each app has a control plane of its own."""

import time
from collections.abc import Callable, Mapping

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.api.access import Access
from services.api.audit import AuditLog
from services.api.auth import Doorkeeper
from services.api.border import Border
from services.api.context import ApiContext
from services.api.description import describe
from services.api.gate import Gate
from services.api.internal import internal_router
from services.api.limits import Buckets, StreamSlots
from services.api.page_files import add_page
from services.api.problems import install_handlers
from services.api.request_metrics import RequestCounter, RequestMetrics, Together
from services.api.routes.audit import audit_router
from services.api.routes.calls import calls_router
from services.api.routes.checkpoints import checkpoints_router
from services.api.routes.config import config_router
from services.api.routes.evaluations import evaluations_router
from services.api.routes.events import events_router
from services.api.routes.files import files_router
from services.api.routes.logs import logs_router
from services.api.routes.runs import runs_router
from services.api.routes.service import Check, installed, service_router
from services.api.routes.workers import workers_router
from services.api.tickets import Tickets
from services.control.plane import ControlPlane
from services.hosting.direct import DirectTransport
from services.run_view.views import RunViews

DESCRIPTION = (
    "See, pause, resume and steer runs. Calls write what is wanted; operations and events tell what became of it."
)

_OF_RUNS = (
    *(runs_router, calls_router, config_router, events_router, logs_router, files_router),
    *(checkpoints_router, evaluations_router, workers_router),
)


def create_app(
    plane: ControlPlane,
    *,
    registry: CollectorRegistry,
    access: Access | None = None,
    checks: Mapping[str, Check] | None = None,
    transport: DirectTransport | None = None,
    on_shutdown: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application. Whoever ends it closes `app.state.views`.

    Args:
        registry: what /metrics shows, beside what the app counts of its own requests.
        access: who may call; None: whoever reaches a loopback port.
        checks: what /readyz asks besides the control plane itself.
        transport: takes what processes of runs say over HTTP; None: they have another way.
        on_shutdown: ends the host of the control plane; None: it cannot be ended over HTTP.
        clock: seconds since the epoch.
    """
    known = access or Access()
    tickets, views = Tickets(clock=clock), RunViews(mask=plane.redactor)
    slots = StreamSlots(known.limits.max_streams)
    requests = RequestMetrics(slots)
    context = ApiContext(
        plane=plane,
        slots=slots,
        tickets=tickets,
        files=views,
        clock=clock,
    )
    app = FastAPI(
        title="lessrl control plane",
        description=DESCRIPTION,
        version=installed("lessrl") or "unknown",
        docs_url=None,
        redirect_slashes=False,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    shown = Together(registry, requests)
    routers = [service_router(context, metrics=shown, checks=lambda: {**plane.checks, **(checks or {})})]
    app.state.views = views
    routers += [make(context) for make in _OF_RUNS]
    routers.append(audit_router(context, on_shutdown=on_shutdown))
    if transport is not None:
        routers.append(internal_router(transport))
    for router in routers:
        # `include_router` would make every path a second time, and that is most of the time that this takes.
        app.router.routes.extend(router.routes)
    requests.expect(app.router.routes)
    add_page(app)
    install_handlers(app, plane.redactor.text)
    describe(app)
    _add_middleware(app, plane, known, tickets, clock)
    app.add_middleware(RequestCounter, metrics=requests)
    return app


def _add_middleware(
    app: FastAPI, plane: ControlPlane, access: Access, tickets: Tickets, clock: Callable[[], float]
) -> None:
    def generation_of(run_id: str) -> int | None:
        run = plane.run(run_id)
        return None if run is None else run.record.config_generation

    audit = AuditLog(
        plane, generation_of=generation_of, redact=plane.redactor.data, file=access.audit_file, clock=clock
    )
    app.add_middleware(
        Gate,
        doorkeeper=Doorkeeper(access.tokens, insecure=access.insecure, clock=clock),
        buckets=Buckets(access.limits, clock=clock),
        tickets=tickets,
        audit=audit,
        learn=plane.redactor.learn,
    )
    # The last one added is the first that a request meets, but for what counts them all.
    app.add_middleware(Border, allowed_hosts=access.allowed_hosts, limits=access.limits)
