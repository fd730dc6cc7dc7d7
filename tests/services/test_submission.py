"""`lessrl submit` where there is no cluster."""

import socket
from pathlib import Path

import pytest
from recipe_builders import write_recipe

from services.submission import submit_recipe
from shaping.errors import UserError


def test_recipe_outside_of_what_is_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="a recipe must be inside the directory that is sent to the cluster"):
        submit_recipe(write_recipe(tmp_path), [], "http://127.0.0.1:1", tmp_path / "runs")


def test_no_cluster_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(UserError) as caught:
        submit_recipe(write_recipe(tmp_path), [], address, tmp_path / "runs")
    message = str(caught.value)
    assert message.startswith(f"a Ray dashboard must answer at {address}: ") and "\n" not in message


def test_layer_outside_of_what_is_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe, layer = write_recipe(tmp_path / "here"), tmp_path / "layer.yaml"
    layer.write_text("seed: 1")
    with pytest.raises(UserError, match=r"a layer must be inside the directory .*copy it \(--with\)"):
        submit_recipe(recipe, [], "http://127.0.0.1:1", tmp_path / "runs", layers=[layer])
