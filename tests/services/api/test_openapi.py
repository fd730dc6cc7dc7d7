"""The description of the API: committed as it is, every operation named, every error a problem."""

from pathlib import Path

from api_service import open_service

from services.api.openapi import openapi_document, openapi_text

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_description_is_what_the_code_answers() -> None:
    advice = "the API has changed: python -m services.api.openapi > docs/openapi.json, and look at what it breaks"
    assert COMMITTED.read_text() == openapi_text(), advice


def test_every_operation_has_a_name_a_purpose_and_declared_errors() -> None:
    document = openapi_document()
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names) > 40
    for each in operations:
        assert each["description"], each["operationId"]
        assert {"400", "401", "403", "422", "429", "500", "503"} <= set(each["responses"]), each["operationId"]
        for status, response in each["responses"].items():
            is_problem = response == {"$ref": "#/components/responses/Problem"}
            assert is_problem == (status >= "4") or each["operationId"] == "get_readiness"
    assert set(document["components"]["responses"]["Problem"]["content"]) == {"application/problem+json"}


def test_every_member_that_may_be_null_says_what_null_means() -> None:
    schemas = openapi_document()["components"]["schemas"]
    silent = []
    for name, schema in schemas.items():
        whole = schema.get("description", "")
        for member, each in schema.get("properties", {}).items():
            may_be_null = {"type": "null"} in each.get("anyOf", ())
            words = each.get("description", "")
            if may_be_null and "null" not in words.lower() and "Null" not in whole and "null" not in whole:
                silent.append(f"{name}.{member}")
    assert silent == []


async def test_the_docs_name_every_call_and_load_nothing() -> None:
    async with open_service() as service:
        page = (await service.get("/docs")).text
    assert "POST /v1/runs/{run_id}/pause" in page
    assert "timeout_seconds" in page
    assert "<script" not in page and "<link" not in page and "http://" not in page and "https://" not in page
