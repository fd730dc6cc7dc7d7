"""Errors as RFC 9457 problem details: `application/problem+json` with a URN type, for every error the API can give."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from services.api.schemas.base import storable_data
from services.control.records import StoreError
from services.run_view.refusals import InUse, NotFound
from shaping.errors import DataError, UserError

MEDIA_TYPE = "application/problem+json"
REQUEST_ID_HEADER = "X-Request-Id"
URN = "urn:lessrl:problem:"
PROBLEM = "Problem"
"""Name of the one error response that the description refers to."""
EVERY_PATH = (400, 401, 403, 413, 422, 429, 431, 500, 503, 504)

logger = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """One member of a request that cannot be."""

    pointer: str = Field(description="JSON pointer into the body, or the name of a path or query parameter")
    message: str


class ProblemDetails(BaseModel):
    """What every error answers (RFC 9457). Members that may be null are those of some types alone."""

    type: str = Field(description="URN of the kind of problem, stable")
    title: str
    status: int
    detail: str
    instance: str = Field(description="URN with the request's id, also in the header X-Request-Id")
    current_state: str | None = Field(default=None, description="the run's state, with 409")
    allowed_actions: list[str] | None = Field(default=None, description="calls that the state allows, with 409")
    operation_id: str | None = Field(default=None, description="the operation in the way, with pause-in-progress")
    run_id: str | None = Field(default=None, description="the run in the way, with run-active")
    generation: int | None = Field(default=None, description="of the config as it is, with 412 and 428")
    errors: list[ErrorDetail] | None = Field(default=None, description="what is wrong with the request, with 422")


class Problem(Exception):
    """An error answer, raised anywhere below a handler.

    Args:
        slug: last part of the type's URN.
        headers: of the answer.
        members: extension members of the problem.
    """

    def __init__(
        self, status: int, slug: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = headers
        self.members = members


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a path: these statuses, and those that every path can have; description.py says the rest."""
    # Without the model: FastAPI would build a validator for each status of each path, which is most of an app's start.
    return {status: {"description": PROBLEM} for status in (*statuses, *EVERY_PATH)}


def invalid(pointer: str, message: str) -> Problem:
    """One member of a request that cannot be: 422."""
    name = pointer.removeprefix("#/") or "body"
    errors = [{"pointer": pointer, "message": message}]
    return Problem(422, "validation", f"{name.removeprefix('#')}: {message}", errors=errors)


def checked_data(data: dict[str, Any], pointer: str) -> dict[str, Any]:
    """JSON data of a body that no model describes, if every store can keep it.

    Raises:
        Problem: 422.
    """
    try:
        storable_data(data)
    except RecursionError:
        raise invalid(pointer, "is nested too deep") from None
    except ValueError as error:
        raise invalid(pointer, str(error)) from None
    return data


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


def install_handlers(app: FastAPI, mask: Callable[[str], str]) -> None:
    """Make every error of the app a problem, but for what nobody expected: the border answers that.

    Args:
        mask: takes secrets out of what an error says.
    """
    for kind, explain in _KINDS.items():
        app.add_exception_handler(kind, _handler(explain, mask))


def _handler(
    explain: Callable[[Request, Any], Problem], mask: Callable[[str], str]
) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def handle(request: Request, error: Exception) -> JSONResponse:
        problem = explain(request, error)
        members = dict(problem.members)
        if errors := members.get("errors"):
            members["errors"] = [{name: mask(text) for name, text in each.items()} for each in errors]
        return problem_response(
            str(request.state.request_id),
            problem.status,
            problem.slug,
            mask(problem.detail),
            members=members,
            headers=problem.headers,
        )

    return handle


def _of_problem(_: Request, error: Problem) -> Problem:
    return error


def _of_store(request: Request, error: StoreError) -> Problem:
    """Nothing was changed: memory follows the store."""
    logger.error("request %s: the store failed: %s", request.state.request_id, error)
    detail = "the control plane's store cannot be read or written, nothing was changed; its log says why"
    return Problem(503, "not-ready", detail, headers={"Retry-After": "5"})


def _of_missing(_: Request, error: NotFound) -> Problem:
    return Problem(404, f"{error.what}-not-found", str(error))


def _of_use(_: Request, error: InUse) -> Problem:
    return Problem(409, "checkpoint-in-use", str(error))


def _of_damage(_: Request, error: DataError) -> Problem:
    """A file of the run that is not what it should be: no fault of the request's."""
    return Problem(409, "damaged-file", str(error))


def _of_user(_: Request, error: UserError) -> Problem:
    return Problem(422, "validation", str(error))


def _of_validation(_: Request, error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return Problem(400, "malformed", "the body must be JSON, found something else")
    errors = [_explain(each) for each in found]
    detail = "; ".join(f"{each['pointer'].lstrip('#/') or 'body'}: {each['message']}" for each in errors)
    return Problem(422, "validation", detail, errors=errors)


def _of_http(request: Request, error: HTTPException) -> Problem:
    """What the framework itself refuses: no such path, no such method."""
    status = error.status_code
    detail = {
        404: f"no such path: {request.url.path}",
        405: f"{request.method} is not possible on {request.url.path}",
    }.get(status, str(error.detail))
    slug = "malformed" if status == 400 else HTTPStatus(status).phrase.lower().replace(" ", "-")
    return Problem(status, slug, detail, headers=error.headers)


_KINDS: dict[type[Exception], Callable[[Request, Any], Problem]] = {
    Problem: _of_problem,
    StoreError: _of_store,
    NotFound: _of_missing,
    InUse: _of_use,
    DataError: _of_damage,
    UserError: _of_user,
    RequestValidationError: _of_validation,
    HTTPException: _of_http,
}


def _explain(error: Mapping[str, Any]) -> dict[str, str]:
    place: Sequence[Any] = error["loc"]
    if tuple(place) == ("body",):
        return {"pointer": "#", "message": "must be a JSON object, sent as application/json"}
    is_body = place[0] == "body"
    pointer = "#/" + "/".join(str(part) for part in place[1:]) if is_body else str(place[-1])
    message = "unknown member" if error["type"] == "extra_forbidden" else str(error["msg"])
    message = message.removeprefix("Value error, ")
    return {"pointer": pointer, "message": message}
