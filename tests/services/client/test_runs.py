"""Which run is meant."""

import httpx
import pytest

from services.client.endpoint import Endpoint
from services.client.errors import CommandFailed
from services.client.http import ControlClient
from services.client.runs import choose_run


def choose(wanted: str, *runs: tuple[str, str, str]) -> str:
    items = [{"id": run_id, "name": name, "status": {"state": state}} for run_id, name, state in runs]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"items": items, "next_page_token": None}))
    with ControlClient(Endpoint(url="http://a", named_by="a test"), transport=transport) as client:
        return choose_run(client, wanted)


def refused(wanted: str, *runs: tuple[str, str, str]) -> str:
    with pytest.raises(CommandFailed) as error:
        choose(wanted, *runs)
    assert error.value.exit_code == 2
    return str(error.value)


OLD = ("run_1", "math", "completed")
NOW = ("run_2", "math", "paused")
OTHER = ("run_3", "code", "running")


def test_id_needs_no_list() -> None:
    assert choose("run_77") == "run_77"


def test_only_active_run_needs_no_word() -> None:
    assert choose("", OLD, NOW) == "run_2"


def test_only_run_needs_no_word_when_it_has_ended() -> None:
    assert choose("", OLD) == "run_1"


def test_name_means_the_run_of_that_name_that_goes_on() -> None:
    assert choose("math", OLD, NOW, OTHER) == "run_2"
    assert choose("code", OLD, NOW, OTHER) == "run_3"


def test_two_active_runs_need_a_word_and_are_named() -> None:
    said = refused("", OLD, NOW, OTHER)
    assert "run_2 (math, paused), run_3 (code, running)" in said and "run_1" not in said


def test_no_run_is_said() -> None:
    assert "found no run at all" in refused("")
    assert "got 'none'; found no such run" in refused("none", OLD)
