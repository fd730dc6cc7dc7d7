"""The config over HTTP: shown with its live keys, changed against what the caller saw, looked back at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from api_service import RUN, Service, check_problem, open_service
from recipe_builders import make_recipe
from report_builders import make_description

from services.control.machine import Happening
from services.control.redaction import Redactor

RATE = "learner.optimizer.learning_rate"
CONFIG = f"{RUN}/config"


@asynccontextmanager
async def running_service(**more: Any) -> AsyncIterator[Service]:
    description = make_description(recipe=make_recipe().as_dict())
    async with open_service(descriptions=(description,), **more) as service:
        await service.report(Happening.STARTED)
        yield service


def patch_rate(value: object) -> dict[str, Any]:
    return {"learner": {"optimizer": {"learning_rate": value}}}


async def change(service: Service, patch: object, if_match: str | None = '"1"') -> httpx.Response:
    headers = {} if if_match is None else {"if-match": if_match}
    return await service.patch(CONFIG, json=patch, headers=headers)


async def test_the_config_has_every_default_and_its_generation_as_etag() -> None:
    async with running_service() as service:
        response = await service.get(CONFIG)
        body = response.json()
        assert response.headers["etag"] == '"1"'
        assert body["generation"] == 1
        assert body["config"] == make_recipe().as_dict()
        assert body["pending"] == {}
        rate = next(key for key in body["live_keys"] if key["key"] == RATE)
        assert rate["value"] == body["config"]["learner"]["optimizer"]["learning_rate"]
        assert (rate["applies"], rate["minimum"], rate["maximum"]) == ("next_step", 0, 1)


async def test_the_text_as_submitted_is_kept_where_there_was_one() -> None:
    async with running_service() as service:
        answer = await service.get(CONFIG, params={"format": "original"})
        check_problem(answer, 404, "config-text-not-kept")
    async with open_service(descriptions=()) as service:
        await service.register(make_description(), config_text="name: tiny  # mine\n")
        answer = await service.get(CONFIG, params={"format": "original"})
        assert (answer.text, answer.headers["content-type"]) == ("name: tiny  # mine\n", "application/yaml")


async def test_a_change_is_pending_until_the_run_says_that_it_took() -> None:
    async with running_service() as service:
        response = await change(service, patch_rate(2e-6))
        assert response.status_code == 200, response.text
        assert response.headers["etag"] == '"2"'
        pending = {RATE: {"value": 2e-6, "applies": "next_step"}}
        assert response.json() == {"generation": 2, "applied": {}, "pending": pending}
        shown = (await service.get(CONFIG)).json()
        assert (shown["generation"], shown["pending"]) == (2, pending)
        assert shown["config"]["learner"]["optimizer"]["learning_rate"] == 2e-6
        await service.report("config_applied", details={"generation": 2, "step": 5, "values": {RATE: 2e-6}})
        assert (await service.get(CONFIG)).json()["pending"] == {}
        history = (await service.get(f"{CONFIG}/history")).json()["items"]
        assert [each["generation"] for each in history] == [1, 2]
        assert (history[1]["patch"], history[1]["by"], history[1]["at_step"]) == ({RATE: 2e-6}, "local", 5)
        assert (history[0]["patch"], history[0]["at_step"]) == ({}, 1)


async def test_a_change_that_the_run_refused_is_no_longer_pending_and_says_why() -> None:
    async with running_service() as service:
        before = (await service.get(CONFIG)).json()["config"]
        await change(service, patch_rate(2e-6))
        await service.report("config_failed", details={"generation": 2, "error": "the learner refused"})
        after = (await service.get(CONFIG)).json()
        assert (after["pending"], after["config"]) == ({}, before)
        history = (await service.get(f"{CONFIG}/history")).json()["items"]
        assert (history[1]["error"], history[1]["at_step"]) == ("the learner refused", None)


async def test_a_value_that_is_there_already_is_applied_and_makes_no_generation() -> None:
    async with running_service() as service:
        steps = make_recipe().run.steps
        response = await change(service, {"run": {"steps": steps}})
        assert response.json() == {"generation": 1, "applied": {"run.steps": steps}, "pending": {}}


async def test_a_change_must_say_what_it_goes_out_from() -> None:
    async with running_service() as service:
        body = check_problem(await change(service, patch_rate(2e-6), None), 428, "precondition-required")
        assert body["generation"] == 1
        assert (await change(service, patch_rate(2e-6))).status_code == 200
        for stale in ('"1"', '"7"', "nonsense", '"-1"'):
            body = check_problem(await change(service, patch_rate(3e-6), stale), 412, "precondition-failed")
            assert body["generation"] == 2, stale
        assert (await change(service, patch_rate(3e-6), "*")).json()["generation"] == 3


async def test_what_is_not_live_is_refused_with_the_reason_for_each_key() -> None:
    place = "#/learner/optimizer/learning_rate"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"seed": 8}, "#/seed", ""),
        ({"learner": {"optimizer": {"learning_rates": 1e-6}}}, f"{place}s", "learning_rate"),
        (patch_rate(None), place, ""),
        (patch_rate("fast"), place, ""),
        (patch_rate(-1), place, ">= 0"),
        (patch_rate(2), place, "<= 1"),
        (patch_rate({"deep": {"er": 1}}), place, ""),
    ]
    async with running_service() as service:
        for patch, pointer, words in cases:
            body = check_problem(await change(service, patch), 422, "key-not-live")
            assert body["errors"][0]["pointer"].startswith(pointer), patch
            assert words in body["errors"][0]["message"]
        assert (await service.get(CONFIG)).json()["generation"] == 1


async def test_a_patch_that_no_store_can_keep_is_refused() -> None:
    async with running_service() as service:
        check_problem(await change(service, {"name": "nul \0"}), 422, "validation")
        check_problem(await change(service, ["run"]), 422, "validation")


async def test_the_config_of_a_finished_run_stays() -> None:
    async with running_service() as service:
        await service.report(Happening.COMPLETED)
        check_problem(await change(service, patch_rate(2e-6)), 409, "run-finished")
        assert (await service.get(CONFIG)).status_code == 200


async def test_a_recipe_that_this_version_cannot_read_is_said_so() -> None:
    async with open_service(descriptions=(make_description(recipe={"name": 3}),)) as service:
        body = check_problem(await service.get(CONFIG), 409, "damaged-config")
        assert "recipe" in body["detail"]


async def test_secrets_are_masked_in_the_config_and_in_its_text() -> None:
    recipe = make_recipe({"model.path": "models/canary-4711-secret"}).as_dict()
    redactor = Redactor(["canary-4711-secret"])
    async with open_service(descriptions=(), redactor=redactor) as service:
        text = "model: {path: models/canary-4711-secret}\n"
        await service.register(make_description(recipe=recipe), config_text=text)
        for params in ({}, {"format": "original"}):
            answer = await service.get(CONFIG, params=params)
            assert answer.status_code == 200
            assert "canary-4711" not in answer.text
            assert "[redacted]" in answer.text
