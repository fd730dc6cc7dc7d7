"""No secret leaves, by the name that it stands under or by its value; and nothing else is taken for one."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_builders import make_recipe
from report_builders import make_step

from services.control.redaction import REDACTED, Redactor, names_a_secret, names_a_secret_variable
from services.metrics.entries import catalogue
from services.recipe_reference import reference

SECRET = 'p"4$s w/ö\\rd'


@pytest.mark.parametrize(
    "key",
    [
        *("token", "hf_token", "apiToken", "access_token", "refresh-token", "X-Auth-Token", "LESSRL_TOKEN"),
        *(
            "api_key",
            "apiKey",
            "apikey",
            "private_key",
            "openai_key",
            "aws_secret_access_key",
            "api_keys",
            "auth_tokens",
        ),
        *("secret", "client_secret", "clientSecret", "secret_value", "secrets"),
        *("password", "db_password", "passwd", "passphrase", "password_hash"),
        *("authorization", "Authorization", "proxy-authorization", "credential", "credentials", "aws_credentials"),
    ],
)
def test_keys_that_name_a_secret_are_hidden(key: str) -> None:
    assert names_a_secret(key)
    assert Redactor().data({key: "anything"}) == {key: REDACTED}
    assert Redactor().data({"deep": [{key: {"even": "this"}}]}) == {"deep": [{key: REDACTED}]}


@pytest.mark.parametrize(
    "key",
    [
        *("max_response_tokens", "token_plans", "tokens_generated", "num_tokens", "micro_batch_tokens", "token_ids"),
        *("eos_token", "pad_token", "next_page_token", "per_token", "first_token", "token_env", "LESSRL_TOKEN_FILE"),
        *("key", "keys", "live_keys", "prompt_key", "idempotency_key", "key_count", "keyboard", "monkey", "author"),
        *("tokenizer", "secretary", "learner.optimizer.learning_rate", "shaping.shapers.less.outside"),
    ],
)
def test_keys_that_only_look_like_it_are_shown(key: str) -> None:
    assert not names_a_secret(key)
    assert Redactor().data({key: "shown"}) == {key: "shown"}


def test_no_key_of_a_recipe_a_report_or_the_metrics_is_taken_for_a_secret() -> None:
    recipe = make_recipe().as_dict()
    assert Redactor().data(recipe) == recipe
    assert not [key for key in set(re.findall(r"\w+_\w+", reference())) if names_a_secret(key)]
    assert not [name for metric in catalogue().metrics for name in metric.names if names_a_secret(name)]
    assert not [name for name in make_step().__dataclass_fields__ if names_a_secret(name)]


def test_what_is_absent_is_not_shown_as_if_it_were_hidden() -> None:
    data = {"password": None, "token": "", "has_secret": False}
    assert Redactor().data(data) == data


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "WANDB_APIKEY", "DB_PASSWORD", "GH_PAT", "AWS_SECRET_ID"]
)
def test_variables_that_hold_a_secret_are_known_by_name(name: str) -> None:
    assert names_a_secret_variable(name)
    assert Redactor.from_environment({name: "abcdefgh"}).text("x abcdefgh y") == f"x {REDACTED} y"


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "PWD", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "LESSRL_TOKEN_FILE"]
)
def test_other_variables_are_no_secrets(name: str) -> None:
    assert not names_a_secret_variable(name)


def test_a_known_value_is_masked_wherever_and_however_it_is_written() -> None:
    redactor = Redactor([SECRET])
    for spelled in (SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), quote(SECRET, safe="")):
        shown = redactor.text(f"before {spelled} after")
        assert REDACTED in shown and spelled not in shown
    assert redactor.data({SECRET: [1, (SECRET, None)]}) == {REDACTED: [1, [REDACTED, None]]}


def test_of_two_secrets_that_begin_alike_neither_keeps_its_tail() -> None:
    for secrets in (["abcdefgh", "abcdefgh-and-more"], ["abcdefgh-and-more", "abcdefgh"]):
        assert Redactor(secrets).text("abcdefgh-and-more abcdefgh") == f"{REDACTED} {REDACTED}"


def test_a_value_too_short_to_be_looked_for_is_not_masked_in_words() -> None:
    assert Redactor(["a", "", "  ", "12345"]).text("a banana 12345") == "a banana 12345"
    assert Redactor(["123456"]).text("123456") == REDACTED


def test_a_secret_that_is_learnt_later_is_masked_from_then_on() -> None:
    redactor = Redactor(["abcdefgh"])
    redactor.learn(["ijklmnop"])
    assert redactor.text("abcdefgh ijklmnop") == f"{REDACTED} {REDACTED}"


def test_what_a_recipe_refers_to_is_masked_and_the_reference_is_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    environment = {"SCORER": "from-the-environment", "JUDGE": "named-by-a-key"}
    recipe = {
        "rewards": [
            {"kind": "http", "url": "https://scorer/?k=${env:SCORER}", "token_env": "JUDGE"},
            {"kind": "http", "api_key": "written-down", "url": f"https://x/${{file:{tmp_path}/token}}"},
        ]
    }
    redactor = Redactor(environment=environment)
    redactor.learn_from_recipe(recipe)
    for secret in ("from-the-environment", "named-by-a-key", "from-a-file", "written-down"):
        assert redactor.text(f"<{secret}>") == f"<{REDACTED}>"
    shown: Any = redactor.data(recipe)
    assert shown["rewards"][0] == recipe["rewards"][0]
    assert shown["rewards"][1]["api_key"] == REDACTED
    assert redactor.data({"api_key": "${env:SCORER}"}) == {"api_key": "${env:SCORER}"}


@given(st.text(min_size=6).filter(lambda text: len(text.strip()) >= 6), st.text(), st.text())
def test_no_text_with_a_known_secret_in_it_keeps_it(secret: str, before: str, after: str) -> None:
    kept = secret.strip()
    shown = Redactor([secret]).text(before + kept + after)
    # The mask itself may spell a secret that was chosen so.
    assert kept not in shown.replace(REDACTED, "")


def test_json_data_keeps_its_shape() -> None:
    data = {"a": [1, 2.5, None, True, "text"], "b": {"c": []}}
    assert Redactor(["abcdefgh"]).data(data) == data


def test_each_token_of_a_variable_that_holds_several_is_masked_and_its_short_words_are_not() -> None:
    lines = "ann admin 0123456789abcdef\nbob read fedcba9876543210\n"
    redactor = Redactor.from_environment({"LESSRL_TOKENS": lines})
    said = redactor.text("ann told bob: fedcba9876543210, mine is 0123456789abcdef")
    assert said == f"ann told bob: {REDACTED}, mine is {REDACTED}"
