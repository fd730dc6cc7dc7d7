"""Laws of `lessrl dashboards export`."""

from pathlib import Path

import pytest
import typer.testing

from dashboards.build import FOLDER
from services.commands.dashboards import dashboards_app
from shaping.errors import UserError


def export(directory: Path) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(dashboards_app, ["export", str(directory)])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_dashboard_is_exported_as_it_is_committed(tmp_path: Path) -> None:
    done = export(tmp_path / "new" / "folder")
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "new" / "folder") == files(FOLDER)
    assert done.output.split() == [str(tmp_path / "new" / "folder" / name) for name in sorted(files(FOLDER))]


def test_an_older_file_is_written_over_and_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lessrl-learner.json").write_text("old")
    (tmp_path / "mine.json").write_text("mine")
    export(tmp_path)
    assert files(tmp_path) == files(FOLDER) | {"mine.json": b"mine"}


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = export(tmp_path / "file")
    assert isinstance(done.exception, UserError)


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_noun_says_what_it_can_do(words: list[str]) -> None:
    assert "export" in typer.testing.CliRunner().invoke(dashboards_app, words).output
