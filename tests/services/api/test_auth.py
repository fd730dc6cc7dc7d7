"""Tokens: how they are read, what each role may, which binds need one, and that no error shows one."""

import hmac
import logging
import os
import pickle
from pathlib import Path

import pytest
from report_builders import Clock

from services.api.access import LOOPBACK_NAMES, Access, access_of
from services.api.auth import (
    Doorkeeper,
    Role,
    Token,
    is_loopback,
    parse_tokens,
    read_tokens,
    require_tokens,
)
from services.control.records import Caller
from shaping.errors import UserError

READER = "reader-token-0123456789"
ADMIN = "admin-token-0123456789ab"


def make_doorkeeper(*tokens: Token, insecure: bool = False, clock: Clock | None = None) -> Doorkeeper:
    return Doorkeeper(tokens, insecure=insecure, clock=clock or Clock())


def test_each_role_may_what_those_before_it_may() -> None:
    allowed = {(have, need) for have in Role for need in Role if have.may(need)}
    assert allowed == {
        *[(Role.READ, Role.READ)],
        *[(Role.OPERATE, Role.READ), (Role.OPERATE, Role.OPERATE)],
        *[(Role.ADMIN, Role.READ), (Role.ADMIN, Role.OPERATE), (Role.ADMIN, Role.ADMIN)],
    }


def test_a_line_is_name_role_and_token_and_comments_are_skipped() -> None:
    tokens = parse_tokens(["# people", "", f"  ann  admin {ADMIN}", f"prom read {READER}"], where="tokens")
    assert [(each.name, each.role) for each in tokens] == [("ann", "admin"), ("prom", "read")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"ann {ADMIN}", "name role token"),
        (f"ann root {ADMIN}", "read, operate or admin"),
        ("ann admin short-secret", "at least 16 characters"),
        (f"ann admin {ADMIN}\nbob read {ADMIN}", "twice"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place_and_without_its_token(line: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_tokens(line.splitlines(), where="tokens")
    assert "of tokens)" in str(caught.value)
    assert ADMIN not in str(caught.value)
    assert "short-secret" not in str(caught.value)


def test_tokens_come_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ann admin {ADMIN}\n")
    file.chmod(0o600)
    environment = {"LESSRL_TOKENS": f"prom read {READER}", "LESSRL_TOKENS_FILE": str(file)}
    assert [each.name for each in read_tokens(None, environment=environment)] == ["prom", "ann"]
    assert [each.name for each in read_tokens(file, environment={})] == ["ann"]
    assert read_tokens(None, environment={}) == ()


def test_a_file_of_tokens_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ann admin {ADMIN}\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_tokens(file, environment={})
    with pytest.raises(UserError, match="must be readable"):
        read_tokens(tmp_path / "none", environment={})


def test_a_known_token_names_its_caller_and_anything_else_nobody() -> None:
    doorkeeper = make_doorkeeper(Token.of("ann", Role.ADMIN, ADMIN), Token.of("prom", Role.READ, READER))
    assert doorkeeper.caller(f"Bearer {ADMIN}", "10.0.0.7") == Caller(name="ann", role="admin", address="10.0.0.7")
    assert doorkeeper.caller(f"bearer {READER}", "") == Caller(name="prom", role="read", address="")
    for header in ("", "Bearer", "Bearer ", ADMIN, f"Basic {ADMIN}", f"Bearer {ADMIN[:-1]}", f"Bearer {ADMIN}x"):
        assert doorkeeper.caller(header, "127.0.0.1") is None, header


def test_every_token_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that left early would tell by its time how far down the list a token stands."""
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr("secrets.compare_digest", counting)
    tokens = [Token.of(f"t{number}", Role.READ, f"token-number-{number:08}") for number in range(3)]
    assert make_doorkeeper(*tokens).caller("Bearer token-number-00000000", "") is not None
    assert compared == [token.digest for token in tokens]


def test_without_tokens_everybody_who_can_connect_is_local_admin() -> None:
    assert make_doorkeeper().caller("Bearer whatever", "127.0.0.1") == Caller(
        name="local", role="admin", address="127.0.0.1"
    )


def test_a_public_bind_without_tokens_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(0.0)
    doorkeeper = make_doorkeeper(insecure=True, clock=clock)
    with caplog.at_level(logging.WARNING):
        for now in (0.0, 1.0, 59.0, 60.0, 61.0, 120.0):
            clock.now = now
            caller = doorkeeper.caller("", "10.0.0.7")
            assert caller is not None
            assert caller.name == "anyone"
    assert len(caplog.records) == 3  # at 0, 60 and 120 s
    assert "--insecure-no-auth" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_a_loopback_bind_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    require_tokens(host, (), insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "head.cluster", "", "127.0.0.1.evil.example"])
def test_any_other_bind_refuses_to_begin_without_one(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UserError, match="--insecure-no-auth"):
        require_tokens(host, (), insecure=False)
    require_tokens(host, (), insecure=True)
    require_tokens(host, (Token.of("ann", Role.ADMIN, ADMIN),), insecure=False)


def test_access_to_a_public_bind_has_its_own_name_and_those_given() -> None:
    environment = {"LESSRL_TOKENS": f"ann admin {ADMIN}"}
    access = access_of("10.0.0.5", allowed_hosts=("Head.Cluster",), environment=environment)
    assert access.allowed_hosts == (*LOOPBACK_NAMES, "10.0.0.5", "head.cluster")
    wild = access_of("0.0.0.0", environment=environment)
    assert wild.allowed_hosts == (*LOOPBACK_NAMES, os.uname().nodename.lower())
    assert access_of("127.0.0.1", environment={}) == Access()
    assert access_of("127.0.0.1", insecure=True, environment={}).insecure is False


def test_access_travels_to_another_process_without_a_token_in_it() -> None:
    access = access_of("10.0.0.5", environment={"LESSRL_TOKENS": f"ann admin {ADMIN}"})
    packed = pickle.dumps(access)
    assert ADMIN.encode() not in packed
    assert pickle.loads(packed) == access
