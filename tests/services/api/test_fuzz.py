"""The API against its own description: whatever is asked, no server error, and every answer as it is declared.

Over a real port, with runs in every state and a run's directory behind them. Streams are left out: they do not end.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from api_service import FREE
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from recipe_builders import make_recipe
from report_builders import make_description, make_event
from run_view_builders import append_groups, make_group_line, write_log
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, not_a_server_error
from served_plane import ServedPlane, serve_plane, serve_run

from services.api.access import Access
from services.api.openapi import openapi_document
from services.control.calls import CancelRequest, PauseRequest
from services.control.records import Caller
from services.reports import RunState

RUNS = ("run-1", "run-starting", "run-paused", "run-cancelling", "run-failed", "run-completed", "run-gone")
KNOWN = {
    "run_id": RUNS,
    "group_id": ("g00000001", "g00000003", "g00000090"),
    "name": ("step-000001", "step-000002", "at-step-000000", "at-step-000003"),
    "worker_id": ("rollout-0", "learner-0", "rollout-9"),
    "operation_id": ("op_0",),
}
HOSTILE = (
    *("<script>alert(1)</script>", "\x1b[31m", "\u202e", "%00", "..%2f..", "' OR 1=1 --", "${jndi:ldap://x}", "\0"),
    *("a" * 5000, "\ud7ff\uffff", "-0", "1e999", "NaN", "null", "true", "[]", "{}", "999999999999999999999999"),
)
SCHEMA = schemathesis.openapi.from_dict(openapi_document())
OPERATIONS = {
    each.ok().definition.raw["operationId"]: each.ok()
    for each in SCHEMA.get_all_operations()
    if not each.ok().path.endswith("/stream")
}
CHECKED = [
    not_a_server_error,
    *CHECKS.get_by_names(["status_code_conformance", "content_type_conformance", "response_schema_conformance"]),
]
CALM = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked."""

    url: str
    session: requests.Session


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with serve_plane(folder, access=Access(limits=FREE)) as served, serve_run(served, folder / "run") as run:
        append_groups(run.run_dir, [make_group_line(90, step=1, tokens=HOSTILE, prompt=HOSTILE[0])])
        write_log(run.run_dir, "rollout-0", "".join(f"2026-11-21 07:00:00,000 INFO {text}\n" for text in HOSTILE))
        for run_id in RUNS[1:-1]:
            served.do(make_run(served, run_id))
        with requests.Session() as session:
            yield Target(url=served.url, session=session)


async def make_run(served: ServedPlane, run_id: str) -> None:
    """A run whose process stays at one point of its life."""
    caller, state = Caller(name="test", role="admin"), run_id.removeprefix("run-")
    description = make_description(run_id=run_id, name=HOSTILE[0][:20], recipe=make_recipe().as_dict())
    run = await served.plane.register(description, link_id=run_id)
    await run.relabel(name=HOSTILE[0], labels={"team": HOSTILE[2]}, notes=HOSTILE[1], caller=caller)
    say = [make_event("started")] if state != "starting" else []
    if state in ("failed", "completed"):
        say.append(make_event(state, HOSTILE[1], RunState(state)))
    number = await served.plane.report(run_id, run_id, 1, say)
    if state == "paused":
        await run.pause(PauseRequest(checkpoint=False, reason=HOSTILE[2]), caller)
        await served.plane.report(run_id, run_id, number, [make_event("paused", HOSTILE[0], RunState.PAUSED)])
    if state == "cancelling":
        await run.cancel(CancelRequest(checkpoint=False), caller)
    assert run.life.state == state


def attack(target: Target, name: str, mode: GenerationMode, num_examples: int) -> None:
    operation = OPERATIONS[name]

    @settings(
        max_examples=num_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=CALM,
        phases=(Phase.explicit, Phase.generate),
    )
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        for parameter in case.path_parameters or {}:
            if data.draw(st.integers(0, 7)):
                case.path_parameters[parameter] = data.draw(st.sampled_from(KNOWN[parameter]))
        response = case.call(base_url=target.url, session=target.session)
        case.validate_response(response, checks=CHECKED)
        check_inert(response)

    law()


def check_inert(response: Any) -> None:
    """Whatever is in an answer, no browser takes it for a page of its own."""
    headers = {name.lower(): str(value) for name, value in response.headers.items()}
    assert "nosniff" in headers["x-content-type-options"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "text/html" not in headers.get("content-type", "")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_few_questions_to_each_path_get_declared_answers(name: str, target: Target) -> None:
    for mode in GenerationMode:
        if can_be_wrong(name) or mode is GenerationMode.POSITIVE:
            attack(target, name, mode, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_questions_to_each_path_get_declared_answers(name: str, target: Target) -> None:
    for mode in GenerationMode:
        if can_be_wrong(name) or mode is GenerationMode.POSITIVE:
            attack(target, name, mode, 80)


def can_be_wrong(name: str) -> bool:
    """Whether there is anything in a question that could be wrong."""
    parameters = OPERATIONS[name].definition.raw.get("parameters", [])
    return has_body(name) or any(each["name"] != "accept" for each in parameters)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_in_every_place_get_declared_answers(text: str, target: Target) -> None:
    for name, operation in OPERATIONS.items():
        parameters = operation.definition.raw.get("parameters", [])
        query = {each["name"]: text for each in parameters if each["in"] == "query"}
        headers = {
            each["name"]: text.encode("latin-1", "ignore").decode("latin-1")
            for each in parameters
            if each["in"] == "header" and text.isprintable()
        }
        path = {each["name"]: text for each in parameters if each["in"] == "path" and each["name"] != "run_id"}
        case = operation.Case(
            path_parameters={"run_id": "run-1", **path} if "{run_id}" in operation.path else path,
            query=query,
            headers={each: value[:1000].strip() for each, value in headers.items()},
            **({"body": json.loads(json.dumps(text)), "media_type": "application/json"} if has_body(name) else {}),
        )
        response = case.call(base_url=target.url, session=target.session)
        case.validate_response(response, checks=CHECKED)
        check_inert(response)


def has_body(name: str) -> bool:
    return "requestBody" in OPERATIONS[name].definition.raw
