"""The config of a run: look, change while it goes on, look back."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query, Response

from services.api.answers import problem_of
from services.api.auth import Role
from services.api.config_objects import config_object
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.paging import page_of
from services.api.parameters import IfMatch, PageSize, PageToken
from services.api.problems import Problem, checked_data, declared
from services.api.run_objects import time_of
from services.api.schemas.config import (
    ConfigAnswerObject,
    ConfigObject,
    GenerationObject,
    GenerationPage,
    PendingObject,
)
from services.control.machine import Refused
from services.control.records import Caller
from services.control.run import RunControl
from shaping.errors import RecipeError

Patch = Annotated[
    dict[str, Any],
    Body(
        description="RFC 7396 merge-patch: the members of the config that change, nested as the config is",
        openapi_examples={"rate": {"value": {"learner": {"optimizer": {"learning_rate": 2e-6}}}}},
    ),
]


def config_router(context: ApiContext) -> APIRouter:
    """Paths of a run's config."""
    router = APIRouter(prefix="/v1/runs/{run_id}/config", tags=["config"])
    _add_reads(router, context)
    _add_change(router, context)
    return router


def _add_reads(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get(
        "",
        operation_id="get_config",
        response_model=ConfigObject,
        responses={
            200: {"model": ConfigObject, "content": {"application/yaml": {"schema": {"type": "string"}}}},
            **declared(404, 409),
        },
        dependencies=allowed,
    )
    async def get_config(
        run: Found,
        response: Response,
        format: Annotated[
            Literal["resolved", "original"], Query(description="`original`: the text as it was submitted, as YAML")
        ] = "resolved",
    ) -> ConfigObject | Response:
        """The config of a run: every default written out, live changes in it, secrets masked."""
        response.headers["ETag"] = _etag(run)
        if format == "resolved":
            try:
                return await asyncio.to_thread(config_object, run.record, run.facts.configs, context.plane.redactor)
            except RecipeError as error:
                raise Problem(409, "damaged-config", str(error)) from error
        text = run.record.config_text
        if not text:
            raise Problem(404, "config-text-not-kept", "the run's process brought only the resolved config")
        shown = context.plane.redactor.text(text)
        return Response(shown, media_type="application/yaml", headers={"ETag": _etag(run)})

    @router.get("/history", operation_id="list_config_history", responses=declared(404), dependencies=allowed)
    async def list_config_history(
        run: Found, page_size: PageSize = DEFAULT_PAGE_SIZE, page_token: PageToken = ""
    ) -> GenerationPage:
        """Every change of the config, oldest first; generation 1 is what the run began with."""
        first = GenerationObject(
            generation=1, at=time_of(run.record.created_at), by="", patch={}, applies={}, at_step=1, error=None
        )
        later = [
            GenerationObject(
                generation=each.generation,
                at=time_of(each.at),
                by=each.by,
                patch=context.plane.redactor.data(each.values),
                applies=dict(each.applies),
                at_step=each.at_step,
                error=each.error or None,
            )
            for each in run.facts.configs
        ]
        items, token = page_of(
            [first, *later], key=lambda each: str(each.generation), page_size=page_size, page_token=page_token
        )
        return GenerationPage(items=items, next_page_token=token)


def _add_change(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]

    @router.patch("", operation_id="change_config", responses=declared(404, 409, 412, 428))
    async def change_config(
        run: Found,
        response: Response,
        caller: Annotated[Caller, Depends(needs(Role.OPERATE))],
        patch: Patch,
        if_match: IfMatch = "",
    ) -> ConfigAnswerObject:
        """Change live keys; each takes effect at its border, and the event `config_applied` says when."""
        generation = _seen_generation(run, if_match)
        answer = await run.change_config(checked_data(patch, "#"), generation, caller)
        if isinstance(answer, Refused):
            raise problem_of(answer, run)
        response.headers["ETag"] = _etag(run)
        pending = {key: PendingObject(value=each.value, applies=each.applies) for key, each in answer.pending.items()}
        return ConfigAnswerObject(generation=answer.generation, applied=dict(answer.applied), pending=pending)


def _etag(run: RunControl) -> str:
    return f'"{run.record.config_generation}"'


def _seen_generation(run: RunControl, if_match: str) -> int:
    """The generation that the caller has seen; `*` is whatever is.

    Raises:
        Problem: 428 without the header, 412 where it is no number; both say what is.
    """
    now = run.record.config_generation
    if not if_match:
        detail = f'a change of the config needs If-Match with the ETag that it goes out from; it is "{now}" now'
        raise Problem(428, "precondition-required", detail, generation=now)
    if if_match == "*":
        return now
    text = if_match.removeprefix("W/").strip('"')
    if not text.isdecimal() or not text.isascii() or len(text) > 15:
        detail = f'If-Match must be an ETag of the config, it is "{now}" now, got {if_match!r}'
        raise Problem(412, "precondition-failed", detail, generation=now)
    return int(text)
