"""Canary secrets through a whole run: its process is given them, its user writes them, and no output has one."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from recipe_builders import write_recipe
from stack_run import ROOT, StackRun, started
from toy_policy import toy_changes, write_toy_policy

pytestmark = pytest.mark.stack

API_TOKEN = "canary-of-the-api-0123456789abcdef"
SCORER_KEY = 'canary of the scorer/"key"&0123456789'
SCORER_TOKEN = "canary-of-the-bearer-0123456789"
CLOUD_KEY = "canary-of-the-cloud-0123456789"
CANARIES = (API_TOKEN, SCORER_KEY, SCORER_TOKEN, CLOUD_KEY)
ENVIRONMENT = {
    "LESSRL_TOKENS": f"# who may\nann admin {API_TOKEN}\n",
    "SCORER_KEY": SCORER_KEY,
    "SCORER_BEARER": SCORER_TOKEN,
    "CLOUD_API_KEY": CLOUD_KEY,
    "OMP_NUM_THREADS": "1",
}
WRITTEN = "as agreed: " + " / ".join(CANARIES)
"""What a careless user writes where a remark belongs."""


@dataclass(kw_only=True)
class Outputs:
    """What anybody could read, by a name that a failure shows."""

    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        self.texts[f"{name} ({len(self.texts)})"] = content

    def add_answer(self, answer: httpx.Response) -> httpx.Response:
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.add(f"{answer.request.method} {answer.request.url.path}", headers.encode() + b"\n" + answer.content)
        return answer

    def add_files(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            self.add(f"name of a file in {folder.name}", str(path.relative_to(folder)).encode())
            if path.is_file():
                self.add(str(path.relative_to(folder)), path.read_bytes())

    def leaks(self) -> list[str]:
        return [
            f"{canary!r} in {name}"
            for name, content in self.texts.items()
            for canary in CANARIES
            if any(spelling in content for spelling in spellings(canary))
        ]


def spellings(secret: str) -> set[bytes]:
    """As it is, in JSON, in JSON in JSON, in a URL; a second oracle, which shares nothing with the code's own."""
    once = json.dumps(secret)[1:-1]
    urls = (quote(secret), quote(secret, safe=""), str(httpx.URL(f"http://scorer/?{secret}")).partition("?")[2])
    return {each.encode() for each in (secret, once, json.dumps(once)[1:-1], *urls)}


class Scorer(BaseHTTPRequestHandler):
    """Says back what it was sent: in the errors of every second answer."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
        token = self.headers["Authorization"]
        self.asked.append((self.path, token))
        said = {"error": f"I was called at {self.path} with {token}"}
        results = [said if len(each["response"]) % 2 else {"score": float("7" in each["response"])} for each in items]
        content = json.dumps({"results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not to the terminal of the tests."""


@contextlib.contextmanager
def scorer() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its URL, and the paths and tokens that it was called with."""
    handler = type("OneScorer", (Scorer,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/score", handler.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


class User:
    """Calls the control plane of a run with a token, and keeps every answer."""

    def __init__(self, run_dir: Path, outputs: Outputs) -> None:
        told = json.loads((run_dir / "control.json").read_text())
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        self.client = httpx.Client(base_url=told["url"], headers=headers, timeout=30.0)
        self.run = f"/v1/runs/{told['run_id']}"
        self._outputs = outputs

    def call(self, method: str, path: str, expected: int, **more: Any) -> Any:
        answer = self._outputs.add_answer(self.client.request(method, path, **more))
        assert answer.status_code == expected, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def get(self, path: str, **more: Any) -> Any:
        return self.call("GET", path, 200, **more)

    def read_everything(self) -> None:
        """Every path that can be got, as the OpenAPI lists them: none is forgotten when one is added."""
        ids = {
            "run_id": self.run.removeprefix("/v1/runs/"),
            "operation_id": self.get(f"{self.run}/operations")["items"][0]["id"],
            "group_id": next(each["group_id"] for each in self.get(f"{self.run}/groups")["items"] if each["is_stored"]),
            "name": self.get(f"{self.run}/checkpoints")["items"][0]["name"],
        }
        names = ",".join(self.get(f"{self.run}/series/names")["names"][:64])
        queries = {"/series": {"names": names}, "/distributions": {"kind": "reward"}}
        for path, methods in self.get("/openapi.json")["paths"].items():
            if "get" not in methods or path.endswith("/stream"):
                continue
            query = next((found for end, found in queries.items() if path.endswith(end)), {})
            # No evaluation was made; the answer for that is an output too.
            missing = path.endswith("/evals/{name}")
            self.call("GET", path.format(**ids), 404 if missing else 200, params=query)
        for end in ("/logs?tail=500", "/groups?page_size=500"):
            self.get(f"{self.run}{end}")
        # A run that brings its own control plane keeps the resolved recipe alone.
        self.call("GET", f"{self.run}/config?format=original", 404)
        for path in ("/v1/audit?page_size=500", "/", "/docs"):
            self.get(path)

    def follow(self, path: str, until: str) -> None:
        """A stream from its beginning, opened by a ticket, to the first line with these words."""
        ticket = self.call("POST", "/v1/stream-tickets", 201)["ticket"]
        read: list[str] = []
        with httpx.stream("GET", f"{self.client.base_url}{path}", params={"after": 0, "ticket": ticket}) as answer:
            for line in answer.iter_lines():
                read.append(line)
                if until in line:
                    break
        self._outputs.add(path, "\n".join(read).encode())


def write_carelessly(user: User, run: StackRun) -> None:
    """Secrets in every text that a call takes, in accepted calls and in refused ones."""
    run.wait_for("a step", lambda: bool(run.records("step")), 120)
    user.call("POST", f"{user.run}/pause", 202, json={"mode": "drain", "checkpoint": True, "reason": WRITTEN})
    run.wait_for("paused", lambda: user.get(f"{user.run}/status")["state"] == "paused", 120)
    labels = {"owner": CLOUD_KEY, "token": API_TOKEN}
    user.call("PATCH", user.run, 200, json={"notes": WRITTEN, "labels": labels})
    user.call("PATCH", user.run, 422, json={CLOUD_KEY: 1, "notes": API_TOKEN})
    patch = {"learner": {"optimizer": {"learning_rate": WRITTEN}}, "api_key": CLOUD_KEY, CLOUD_KEY: {}}
    user.call("PATCH", f"{user.run}/config", 422, json=patch, headers={"If-Match": "*"})
    user.call("GET", f"{user.run}/checkpoints/{API_TOKEN}", 404)
    user.call("GET", f"{user.run}/groups/{CLOUD_KEY}", 404)
    user.call("POST", f"/v1/{SCORER_TOKEN}", 404, json={"reason": WRITTEN})
    user.call("POST", f"{user.run}/checkpoints", 202, json={"tag": CLOUD_KEY})


def explain(run_dir: Path, page: Path, outputs: Outputs) -> None:
    command = [sys.executable, "-m", "services.cli", "explain", str(run_dir / "groups.jsonl"), "--html", str(page)]
    told = subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    outputs.add("lessrl explain", told.stdout + told.stderr)
    outputs.add("lessrl explain --html", page.read_bytes())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """All that a run with secrets left behind, and all that its control plane answered."""
    folder, found = tmp_path_factory.mktemp("canary"), Outputs()
    with scorer() as (url, asked):
        reward = {"kind": "http", "url": f"{url}?key=${{env:SCORER_KEY}}", "token_env": "SCORER_BEARER"}
        changes = {
            "shaping.rewards": ["numeric_answer", reward],
            "run.steps": 4,
            "run.max_no_verdict_share": 1.0,
            "run.checkpoint": {"every_steps": 1},
            "run.dump_groups_per_step": 4,
        }
        recipe = write_recipe(folder, toy_changes(write_toy_policy(folder / "policy"), folder, changes))
        words = ("train", str(recipe), "--run-dir", str(folder / "run"), "--address", "house")
        with started(folder, words, ENVIRONMENT) as run:
            run.wait_for("an address", (run.run_dir / "control.json").exists, 120)
            user = User(run.run_dir, found)
            with contextlib.closing(user.client):
                write_carelessly(user, run)
                user.read_everything()
                user.follow(f"{user.run}/events/stream", "paused")
                user.call("POST", f"{user.run}/resume", 202, json={"reason": WRITTEN})
                assert run.wait(180) == 0, run.output()
    assert all("0123456789" in path for path, _ in asked)
    assert {token for _, token in asked} == {f"Bearer {SCORER_TOKEN}"}, "the secrets were in use"
    explain(run.run_dir, folder / "page.html", found)
    found.add_files(run.run_dir)
    found.add("stdout and stderr", (folder / "output.txt").read_bytes())
    return found


def test_no_output_of_a_run_has_a_secret(outputs: Outputs) -> None:
    assert outputs.leaks() == []


def test_the_outputs_are_those_where_a_secret_would_be(outputs: Outputs) -> None:
    everything = b"\n".join(outputs.texts.values())
    assert b"${env:SCORER_KEY}" in everything, "the recipe's reference is shown as it is"
    names = " ".join(outputs.texts)
    wanted = ("metrics.jsonl", "ledger.jsonl", "groups.jsonl", "recipe.yaml", "control.db", "audit.jsonl", "driver.log")
    assert [each for each in (*wanted, "manifest.json", "/v1/audit", "/metrics", "/logs") if each not in names] == []
    # What a user wrote arrived, masked.
    for place in ("control.db", "audit.jsonl", "/operations", "/events", "/v1/audit"):
        assert any(b"as agreed: [redacted]" in text for name, text in outputs.texts.items() if place in name), place
