"""Who asked for what, and tickets for streams."""

import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.parameters import PageSize
from services.api.problems import Problem, declared
from services.api.run_objects import time_of
from services.api.schemas.events import TicketObject
from services.api.schemas.service import AuditObject, AuditPage, ShutdownObject
from services.api.tickets import TICKET_SECONDS
from services.control.records import AuditLine, Caller

logger = logging.getLogger(__name__)


def audit_router(context: ApiContext, *, on_shutdown: Callable[[], None] | None) -> APIRouter:
    """The audit log, stream tickets, and the end of the control plane.

    Args:
        on_shutdown: ends it; None: that is no call's to do.
    """
    router = APIRouter(prefix="/v1", tags=["access"])

    @router.get("/audit", operation_id="list_audit", responses=declared(), dependencies=[Depends(needs(Role.ADMIN))])
    async def list_audit(
        page_size: PageSize = DEFAULT_PAGE_SIZE,
        page_token: Annotated[
            str, Query(pattern=r"^[0-9]{0,15}$", description="next_page_token of the page before")
        ] = "",
    ) -> AuditPage:
        """Every call that changed something, or tried to, the newest first."""
        found = await context.plane.audit(before=int(page_token or 0), limit=page_size + 1)
        shown = [_audit_object(number, line) for number, line in found[:page_size]]
        return AuditPage(items=shown, next_page_token=str(shown[-1].id) if len(found) > page_size else None)

    @router.post("/stream-tickets", operation_id="create_stream_ticket", status_code=201, responses=declared())
    async def create_stream_ticket(caller: Annotated[Caller, Depends(needs(Role.READ))]) -> TicketObject:
        """A ticket that opens one stream, once, soon."""
        return TicketObject(ticket=context.tickets.give(caller), expires_in=TICKET_SECONDS)

    @router.post("/shutdown", operation_id="shut_down", status_code=202, responses=declared(409))
    async def shut_down(caller: Annotated[Caller, Depends(needs(Role.ADMIN))]) -> ShutdownObject:
        """End the control plane; runs that are under way go on without one."""
        if on_shutdown is None:
            raise Problem(409, "not-mine-to-end", "this control plane ends with the process that it is part of")
        logger.warning("%s ends the control plane", caller.name)
        on_shutdown()
        return ShutdownObject(status="ending")

    return router


def _audit_object(number: int, line: AuditLine) -> AuditObject:
    return AuditObject(
        id=number,
        at=time_of(line.at),
        caller=line.caller.name,
        role=line.caller.role,
        address=line.caller.address,
        request_id=line.request_id,
        method=line.method,
        path=line.path,
        run_id=line.run_id,
        body_digest=line.body_digest,
        body=dict(line.body),
        status=line.status,
        generation_before=line.generation_before,
        generation_after=line.generation_after,
    )
