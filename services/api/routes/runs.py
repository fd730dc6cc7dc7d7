"""Runs: list, look, start, label, forget."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from services.api.answers import problem_of
from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.paging import page_of
from services.api.parameters import IdempotencyKey, IfMatch, PageSize, PageToken
from services.api.problems import Problem, checked_data, declared, invalid
from services.api.run_objects import live_status_object, run_object
from services.api.schemas.runs import (
    CreateRunBody,
    DryRunObject,
    LiveStatusObject,
    RelabelBody,
    RunObject,
    RunPage,
)
from services.control.machine import Refused
from services.control.plane import CreateRequest, DryRun, ResumeFrom
from services.control.records import Caller
from services.control.run import RunControl
from services.plain_data import plain_data
from services.recipe_yaml import read_yaml
from services.reports import RunState

_EPOCH = datetime.fromtimestamp(0, UTC)


def runs_router(context: ApiContext) -> APIRouter:
    """Paths of whole runs."""
    router = APIRouter(prefix="/v1/runs", tags=["runs"])
    _add_reads(router, context)
    _add_create(router, context)
    _add_changes(router, context)
    return router


def _add_reads(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    mask = context.plane.redactor.text

    @router.get("", operation_id="list_runs", responses=declared(), dependencies=[Depends(needs(Role.READ))])
    async def list_runs(
        state: RunState | None = None,
        label: Annotated[
            list[str], Query(description="name:value, may be repeated: runs that have all of them", max_length=32)
        ] = [],  # noqa: B006 - pydantic copies it
        created_after: Annotated[datetime | None, Query(description="RFC 3339")] = None,
        page_size: PageSize = DEFAULT_PAGE_SIZE,
        page_token: PageToken = "",
    ) -> RunPage:
        """Every run that this control plane knows, the newest first."""
        labels = [_label(each) for each in label]
        after = _seconds(created_after)
        chosen = [
            run
            for run in context.plane.runs()
            if state in (None, run.life.state)
            and all(run.record.labels.get(name) == value for name, value in labels)
            and run.record.created_at > after
        ]
        runs, token = page_of(chosen, key=lambda run: run.record.run_id, page_size=page_size, page_token=page_token)
        return RunPage(items=[run_object(run, mask) for run in runs], next_page_token=token)

    @router.get("/{run_id}", operation_id="get_run", responses=declared(404), dependencies=[Depends(needs(Role.READ))])
    async def get_run(run: Found, response: Response) -> RunObject:
        """One run: what was asked for, and what is."""
        response.headers["ETag"] = etag_of(run)
        return run_object(run, mask)

    @router.get(
        "/{run_id}/status",
        operation_id="get_run_status",
        response_model=LiveStatusObject,
        responses=declared(404),
        dependencies=[Depends(needs(Role.READ))],
    )
    async def get_run_status(run: Found) -> Response:
        """What is, small and cheap, for whoever looks once a second."""
        # Written straight from its own model: validating it a second time is half of what this call costs.
        body = live_status_object(run, mask, now=context.clock()).model_dump_json()
        return Response(body, media_type="application/json")


def _add_create(router: APIRouter, context: ApiContext) -> None:
    @router.post(
        "",
        operation_id="create_run",
        status_code=201,
        response_model=RunObject,
        responses={200: {"model": DryRunObject, "description": "of a dry run"}, **declared(404, 409)},
    )
    async def create_run(
        body: CreateRunBody,
        response: Response,
        caller: Annotated[Caller, Depends(needs(Role.OPERATE))],
        idempotency_key: IdempotencyKey = "",
    ) -> RunObject | Response:
        """Start a run, or go on with one. At most one is active among those that this control plane starts."""
        answer = await context.plane.create(_create_request(body), caller, idempotency_key)
        if isinstance(answer, Refused):
            in_the_way = _active(context) if answer.slug == "run-active" else None
            raise problem_of(answer, in_the_way)
        if isinstance(answer, DryRun):
            found = context.plane.redactor.data({"config": answer.config, "plan": answer.plan})
            return JSONResponse(DryRunObject(**plain_data(found)).model_dump(mode="json"))
        shown = run_object(answer.run, context.plane.redactor.text)
        response.headers.update({"Location": shown.links.self, "ETag": etag_of(answer.run)})
        return shown


def _add_changes(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    mask = context.plane.redactor.text

    @router.patch("/{run_id}", operation_id="relabel_run", responses=declared(404, 412))
    async def relabel_run(
        run: Found,
        body: RelabelBody,
        response: Response,
        caller: Annotated[Caller, Depends(needs(Role.OPERATE))],
        if_match: IfMatch = "",
    ) -> RunObject:
        """Write on a run: its name, labels, notes."""
        check_match(run, if_match)
        await run.relabel(name=body.name, labels=body.labels, notes=body.notes, caller=caller)
        response.headers["ETag"] = etag_of(run)
        return run_object(run, mask)

    @router.delete(
        "/{run_id}",
        operation_id="delete_run",
        status_code=204,
        response_class=Response,
        responses=declared(404, 409, 412),
    )
    async def delete_run(
        run: Found,
        caller: Annotated[Caller, Depends(needs(Role.ADMIN))],
        delete_checkpoints: Annotated[
            bool, Query(description="remove its checkpoints from the disk as well; all else of its directory stays")
        ] = False,
        if_match: IfMatch = "",
    ) -> Response:
        """Forget a run that has ended."""
        check_match(run, if_match)
        refused = await context.plane.delete(run.record.run_id, caller, delete_checkpoints)
        if isinstance(refused, Refused):
            raise problem_of(refused, run)
        return Response(status_code=204)


def etag_of(run: RunControl) -> str:
    """Changes with what people write on a run or want of it, not with each step."""
    record = run.record
    written = json.dumps([run.description.name, dict(record.labels), record.notes], sort_keys=True)
    digest = hashlib.sha256(written.encode()).hexdigest()[:12]
    return f'"{run.intent.generation}-{record.config_generation}-{digest}"'


def check_match(run: RunControl, if_match: str) -> None:
    """Refuse a change of what has changed since the caller saw it, where the caller says what that was.

    Raises:
        Problem: 412.
    """
    if if_match not in ("", "*", etag_of(run)):
        raise Problem(412, "precondition-failed", f"the run is at {etag_of(run)}, If-Match says {if_match}; look again")


def _active(context: ApiContext) -> RunControl | None:
    return next((run for run in context.plane.unfinished if run.record.launched), None)


def _create_request(body: CreateRunBody) -> CreateRequest:
    named = body.resume_from
    return CreateRequest(
        name=body.name,
        labels=body.labels,
        notes=body.notes,
        config=None if body.config is None else checked_data(body.config, "#/config"),
        config_text=body.config_text,
        overrides=_overrides(body.set),
        resume_from=None if named is None else ResumeFrom(run_id=named.run_id, checkpoint=named.checkpoint),
        start_paused=body.start_paused,
        dry_run=body.dry_run,
    )


def _overrides(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, pair in enumerate(pairs):
        key, equals, value = pair.partition("=")
        try:
            found[key] = read_yaml(value)
        except yaml.YAMLError as error:
            raise invalid(f"#/set/{index}", f"the value must be YAML: {' '.join(str(error).split())}") from None
        if not (key and equals):
            raise invalid(f"#/set/{index}", "must be key=value")
    return found


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise invalid("label", "must be name:value")
    return name, value


def _seconds(time: datetime | None) -> float:
    if time is None:
        return float("-inf")
    if time.tzinfo is None:
        raise invalid("created_after", "must name its offset, such as Z")
    return (time - _EPOCH).total_seconds()
