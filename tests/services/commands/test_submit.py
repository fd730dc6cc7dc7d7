"""A recipe as a run of a control plane: what is sent, and whose exit code it is."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_builders import make_raw, write_recipe
from served_plane import serve_plane

from services.cli import main


class Recorder(ThreadingHTTPServer):
    """Answers as a control plane would whose run is in `state` at once; keeps what it was sent."""

    def __init__(self, state: str) -> None:
        self.sent: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.state = state
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self) -> dict[str, Any]:
        status = {"state": self.state, "step": 3, "total_steps": 3, "failure": None}
        return {"id": "run_1", "name": "small", "status": status}


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent.append((dict(self.headers), body))
        self._answer(201, self.server.run())

    def do_GET(self) -> None:
        run = self.server.run()
        self._answer(200, run["status"] if self.path.endswith("/status") else run)

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    with Recorder(getattr(request, "param", "completed")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def submit(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["submit", *(str(word) for word in words)])
    return int(ended.value.code or 0)


def test_recipe_is_sent_as_it_was_written(recorder: Recorder, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text(f"# mine\n{recipe.read_text()}")
    words = ("--set", "run.steps=9", "--name", "other", "--label", "team=a", "--notes", "why", "--start-paused")
    assert submit(recipe, "--url", recorder.url, "--no-wait", *words) == 0
    (_, body), *more = recorder.sent
    assert not more
    assert body == {
        "config_text": recipe.read_text(),
        "set": ["run.steps=9"],
        "name": "other",
        "labels": {"team": "a"},
        "notes": "why",
        "start_paused": True,
        "dry_run": False,
    }


def test_each_submission_has_a_key_of_its_own_unless_one_is_given(recorder: Recorder, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    for words in ((), (), ("--idempotency-key", "mine"), ("--idempotency-key", "mine")):
        assert submit(recipe, "--url", recorder.url, "--no-wait", *words) == 0
    keys = [headers["Idempotency-Key"] for headers, _ in recorder.sent]
    assert keys[2:] == ["mine", "mine"] and len({*keys}) == 3


def test_paths_that_the_recipe_means_from_its_folder_are_sent_whole(recorder: Recorder, tmp_path: Path) -> None:
    data = {"kind": "jsonl", "path": "rows.jsonl"}
    mixture = {"kind": "mixture", "sources": [{**data, "weight": 1.0}]}
    changes = {"model.path": "./policy", "data.train": mixture, "data.evaluation": {"kind": "arithmetic_task"}}
    recipe = write_recipe(tmp_path, changes)
    assert submit(recipe, "--url", recorder.url, "--no-wait") == 0
    sent = {
        key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in recorder.sent[0][1]["set"])
    }
    assert set(sent) == {"model.path", "data.train"}
    assert sent["model.path"] == str(tmp_path / "policy")
    assert sent["data.train"]["sources"][0]["path"] == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("recorder", "code"), [("completed", 0), ("failed", 1), ("cancelled", 130)], indirect=["recorder"]
)
def test_run_that_is_followed_gives_its_exit_code(
    recorder: Recorder, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(write_recipe(tmp_path), "--url", recorder.url) == code
    assert capsys.readouterr().out == f"run_1 (small): {recorder.state}\n"


def test_mistake_in_the_recipe_is_not_sent(recorder: Recorder, tmp_path: Path) -> None:
    assert submit(write_recipe(tmp_path), "--url", recorder.url, "--set", "run.stepz=3") == 2
    assert submit(tmp_path / "none.yaml", "--url", recorder.url) == 2
    assert submit(write_recipe(tmp_path), "--url", recorder.url, "--label", "team") == 2
    assert recorder.sent == []


def test_options_of_a_control_plane_need_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(write_recipe(tmp_path), "--no-wait") == 2
    assert "give --url, or set LESSRL_URL" in capsys.readouterr().err


def test_dry_run_says_the_plan_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path)
    with serve_plane(tmp_path) as served:
        assert submit(recipe, "--url", served.url, "--dry-run", "--json") == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["config"]["name"] == make_raw()["name"] and answer["plan"]["steps"] == 3
        assert submit(recipe, "--url", served.url, "--dry-run") == 0
        assert "groups per step" in capsys.readouterr().out
        assert served.plane.runs() == ()


def test_layers_are_merged_before_a_recipe_is_sent(recorder: Recorder, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {"model.path": "./policy", "data.train": {"kind": "jsonl", "path": "rows.jsonl"}})
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "one.yaml").write_text("data: {train: {path: own.jsonl}}\nshaping: {shapers: []}\n")
    assert submit(recipe, "--with", "layers/one.yaml", "--url", recorder.url, "--no-wait") == 0
    text = recorder.sent[0][1]["config_text"]
    assert text.startswith("# layers: layers/one.yaml\n")
    written = yaml.safe_load(text)
    assert written["shaping"]["shapers"] == []
    # What the layer names is beside the layer, what the recipe names beside the recipe.
    assert written["data"]["train"] == {"kind": "jsonl", "path": str(tmp_path / "layers" / "own.jsonl")}
    assert recorder.sent[0][1]["set"] == [f'model.path="{tmp_path}/policy"']


def test_layer_that_cannot_be_merged_is_not_sent(recorder: Recorder, tmp_path: Path) -> None:
    assert submit(write_recipe(tmp_path), "--with", "none.yaml", "--url", recorder.url) == 2
    assert recorder.sent == []
