"""Errors as RFC 9457 problem details: `application/problem+json` with a URN type, for every error the API can give."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
REQUEST_ID_HEADER = "X-Request-Id"
URN = "urn:lessrl:problem:"

logger = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """One member of a request that cannot be."""

    pointer: str = Field(description="JSON pointer into the body, or the name of a path or query parameter")
    message: str


class ProblemDetails(BaseModel):
    """What every error answers (RFC 9457); some types add members."""

    type: str = Field(description="URN of the kind of problem, stable")
    title: str
    status: int
    detail: str
    instance: str = Field(description="URN with the request's id, also in the header X-Request-Id")
    current_state: str | None = Field(default=None, description="the run's state, with 409")
    allowed_actions: list[str] | None = Field(default=None, description="calls that the state allows, with 409")
    operation_id: str | None = Field(default=None, description="the operation in the way, with pause-in-progress")
    errors: list[ErrorDetail] | None = Field(default=None, description="what is wrong with the request, with 422")


class Problem(Exception):
    """An error answer, raised anywhere below a handler.

    Args:
        slug: last part of the type's URN.
        members: extension members of the problem.
    """

    def __init__(self, status: int, slug: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.members = members


def problem_response(
    request_id: str,
    status: int,
    slug: str,
    detail: str,
    *,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response; `request_id` becomes its instance."""
    content = {
        "type": URN + slug,
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": f"urn:uuid:{request_id}",
        **(members or {}),
    }
    all_headers = {**(headers or {}), REQUEST_ID_HEADER: request_id}
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=all_headers)


def install_handlers(app: FastAPI) -> None:
    """Make every error of the app a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_crash)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(_id(request), error.status, error.slug, error.detail, members=error.members)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem_response(_id(request), 400, "malformed", "the body must be JSON, found something else")
    errors = [_explain(each) for each in found]
    detail = "; ".join(f"{each['pointer'].lstrip('#/') or 'body'}: {each['message']}" for each in errors)
    return problem_response(_id(request), 422, "validation", detail, members={"errors": errors})


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail = {
        404: f"no such path: {request.url.path}",
        405: f"{request.method} is not possible on {request.url.path}",
    }.get(status, str(error.detail))
    slug = "malformed" if status == 400 else HTTPStatus(status).phrase.lower().replace(" ", "-")
    return problem_response(_id(request), status, slug, detail, headers=error.headers)


async def _on_crash(request: Request, error: Exception) -> JSONResponse:
    logger.error("request %s failed", _id(request), exc_info=error)
    return problem_response(_id(request), 500, "internal", "the control plane failed; its log has the request's id")


def _explain(error: Mapping[str, Any]) -> dict[str, str]:
    place: Sequence[Any] = error["loc"]
    if tuple(place) == ("body",):
        return {"pointer": "#", "message": "must be a JSON object, sent as application/json"}
    is_body = place[0] == "body"
    pointer = "#/" + "/".join(str(part) for part in place[1:]) if is_body else str(place[-1])
    message = "unknown member" if error["type"] == "extra_forbidden" else str(error["msg"])
    return {"pointer": pointer, "message": message}


def _id(request: Request) -> str:
    return str(request.state.request_id)
