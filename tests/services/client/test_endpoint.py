"""Which control plane is meant, and who gets to see the token."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.client.endpoint import DEFAULT_URL, Endpoint, find_endpoint
from shaping.errors import UserError

TOKEN = "a-secret-of-mine-0123456789"


def write_config(home: Path, text: str, mode: int = 0o600) -> None:
    path = home / ".config" / "lessrl" / "config"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)


def write_control(run_dir: Path, content: Any) -> Path:
    run_dir.mkdir()
    (run_dir / "control.json").write_text(json.dumps(content))
    return run_dir


def find(home: Path, url: str = "", *, run_dir: Path | None = None, **environment: str) -> Endpoint:
    return find_endpoint(url, run_dir=run_dir, environment=environment, home=home)


def test_address_is_the_most_particular_one_that_was_given(tmp_path: Path) -> None:
    assert find(tmp_path).url == DEFAULT_URL
    write_config(tmp_path, "url: http://of-the-file:1")
    run_dir = write_control(tmp_path / "run", {"url": "http://127.0.0.1:3", "run_id": "run_1"})
    assert find(tmp_path).url == "http://of-the-file:1"
    assert find(tmp_path, LESSRL_URL="http://of-the-environment:2").url == "http://of-the-environment:2"
    by_directory = find(tmp_path, run_dir=run_dir, LESSRL_URL="http://of-the-environment:2")
    assert (by_directory.url, by_directory.run_id) == ("http://127.0.0.1:3", "run_1")
    said = find(tmp_path, "https://said/", run_dir=run_dir, LESSRL_URL="http://of-the-environment:2")
    assert (said.url, said.run_id) == ("https://said", "run_1")


def test_token_comes_from_the_environment_or_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert find(tmp_path).token == ""
    assert find(tmp_path, LESSRL_TOKEN_FILE=str(path)).token == TOKEN
    assert find(tmp_path, LESSRL_TOKEN="other", LESSRL_TOKEN_FILE=str(path)).token == "other"
    write_config(tmp_path, f"token_file: {path}")
    assert find(tmp_path).token == TOKEN


def test_token_of_the_settings_goes_to_the_address_of_the_settings_alone(tmp_path: Path) -> None:
    write_config(tmp_path, f"url: https://mine:1\ntoken: {TOKEN}")
    assert find(tmp_path).token == TOKEN
    assert find(tmp_path, "https://mine:1/").token == TOKEN
    assert find(tmp_path, "https://others:1").token == ""
    assert find(tmp_path, LESSRL_URL="http://mine:1").token == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_file_that_others_can_read_is_refused_without_its_content(tmp_path: Path, mode: int) -> None:
    write_config(tmp_path, f"token: {TOKEN}", mode)
    with pytest.raises(UserError, match=f"mode {mode:04o}; chmod 600") as refused:
        find(tmp_path)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("text", [f"token: {TOKEN}\n  nonsense: [", f"tokens: {TOKEN}", TOKEN])
def test_settings_that_cannot_be_read_are_refused_without_their_secrets(tmp_path: Path, text: str) -> None:
    write_config(tmp_path, text)
    with pytest.raises(UserError) as refused:
        find(tmp_path)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8470", "ftp://a", "http://", "ftp://me:s3cret@a:1", "http://a:1?token=s3cret", "http://a:port"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="an address must") as refused:
        find(tmp_path, url)
    assert "s3cret" not in str(refused.value)


def test_directory_without_a_control_plane_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"control\.json to be asked, found none .*--url"):
        find(tmp_path, run_dir=tmp_path)


@pytest.mark.parametrize("content", [[], {"url": "http://a"}, {"url": 1, "run_id": "run_1"}])
def test_directory_that_names_no_address_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match="must name url and run_id"):
        find(tmp_path, run_dir=write_control(tmp_path / "run", content))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_directory_of_another_user_cannot_name_an_address(tmp_path: Path) -> None:
    run_dir = write_control(tmp_path / "run", {"url": "http://theirs:1", "run_id": "run_1"})
    os.chown(run_dir / "control.json", 12345, -1)
    with pytest.raises(UserError, match="found another user's"):
        find(tmp_path, run_dir=run_dir, LESSRL_TOKEN=TOKEN)


def test_token_is_in_no_text_of_an_endpoint(tmp_path: Path) -> None:
    assert TOKEN not in repr(find(tmp_path, LESSRL_TOKEN=TOKEN))
