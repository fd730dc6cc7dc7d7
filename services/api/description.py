"""The application's own description, OpenAPI 3.1: one problem for every error, one way to say who calls."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.problems import MEDIA_TYPE, PROBLEM, ProblemDetails

_OPEN = ("get_health", "get_readiness")


def describe(app: FastAPI) -> None:
    """Have `app.openapi()` answer this description, made once."""
    found: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not found:
            found.update(_document(app))
        return found

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document["components"]
    components["responses"] = {
        PROBLEM: {
            "description": "The call failed (RFC 9457)",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
    }
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "where the control plane asks for one"}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    components["schemas"] |= {**problem.pop("$defs"), "ProblemDetails": problem}
    for operation in operations(document):
        operation["security"] = [] if operation["operationId"] in _OPEN else [{}, {"token": []}]
        for status, response in operation["responses"].items():
            operation["responses"][status] = _response(response)
    return document


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every operation of an OpenAPI document."""
    for methods in document["paths"].values():
        yield from methods.values()


def _response(response: dict[str, Any]) -> dict[str, Any]:
    content = response.get("content", {})
    if response["description"] == PROBLEM:
        return {"$ref": f"#/components/responses/{PROBLEM}"}
    if "text/event-stream" in content:
        # What FastAPI writes there is of OpenAPI 3.2, in a document that says 3.1.
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return response
