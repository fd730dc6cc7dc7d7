"""docs/cli.md says what the command does: its commands, options and exit codes are those of the code."""

import re
from pathlib import Path

import pytest
from lessrl_shell import Shell

from services.client import errors

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def commands(lessrl: Shell, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setenv("COLUMNS", "200")
    return set(re.findall(r"^│ ([a-z]+) ", lessrl("--help").out, re.MULTILINE))


def test_every_command_is_in_the_table(lessrl: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    in_table = {
        name
        for line in TEXT.splitlines()
        if line.startswith("| `lessrl")
        for name in re.findall(r"lessrl ([a-z]+)", line)
    }
    assert in_table == commands(lessrl, monkeypatch)


def test_every_option_exists(lessrl: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    known = lessrl("--help").out + "".join(lessrl(name, "--help").out for name in commands(lessrl, monkeypatch))
    for noun in ("config get", "config set", "groups list", "workers restart", "checkpoints create"):
        known += lessrl(*noun.split(), "--help").out
    for option in set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", TEXT)):
        assert option in known, option


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert told == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
