"""What deploy/k8s has a cluster do, on a real Ray of two nodes: all but Kubernetes itself."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from kubernetes_documents import K8S
from ray_cluster import free_port
from ray_pods import BIN, RayPods, ray_pods
from stack_run import TITLES, read_lines
from survival_recipe import write_toy_survival

SCRIPTS = K8S / "base" / "scripts"
TOKEN = "a-token-of-a-test"
RUN_SECONDS = 300.0


@pytest.mark.slow
def test_a_run_is_on_the_worker_pauses_when_its_pods_end_and_goes_on_in_another_cluster(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "runs" / "first"
    recipe = write_toy_survival(tmp_path)
    raw = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump(raw | {"control": {"port": port}}))
    for name, text in (("tokens", f"pods operate {TOKEN}\n"), ("operate", f"{TOKEN}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    inside = {
        "LESSRL_RECIPE": str(recipe),
        "LESSRL_TOKENS_FILE": str(tmp_path / "tokens"),
        "LESSRL_OPERATE_TOKEN_FILE": str(tmp_path / "operate"),
        "LESSRL_CONTROL_PORT": str(port),
        "FQ_RAY_IP": "127.0.0.1",
    }
    head = yaml.safe_load((K8S / "base" / "raycluster.yaml").read_text())["spec"]["headGroupSpec"]["rayStartParams"]
    with ray_pods(tmp_path, mark=str(folder), more=inside) as pods:
        pods.start(head, worker_cpus=3)
        submit(pods, folder)
        wait_for(lambda: num_steps(folder) > 0, "a step")
        # The head offers nothing to work, and yet the run's own process and its control plane are there.
        assert roles_in(pods.processes("worker")) == {"rollout", "shaping", "learner"}
        assert roles_in(pods.processes("head")) == {"control"}

        # Both pods end at once.
        pausing = [subprocess.Popen(["sh", str(SCRIPTS / "pause.sh"), "540"], env=pods.environment) for _ in range(2)]
        assert [each.wait(RUN_SECONDS) for each in pausing] == [0, 0]
        assert roles_in(pods.processes("worker")) == set()
        pods.end(mark=str(folder))
        done = num_steps(folder)

        pods.start(head, worker_cpus=3)
        submit(pods, folder)
        wait_for(lambda: num_steps(folder) > done, "another step")
        steps = [each["step"] for each in read_lines(folder / "run" / "metrics.jsonl") if each["kind"] == "step"]
        assert steps == list(range(1, len(steps) + 1))


def submit(pods: RayPods, folder: Path) -> None:
    """As a RayJob's submitter does."""
    words = ("job", "submit", "--no-wait", "--", "sh", str(SCRIPTS / "run.sh"), str(folder))
    done = pods.run(str(BIN / "ray"), *words)
    assert done.returncode == 0, done.stdout + done.stderr


def num_steps(folder: Path) -> int:
    return sum(each["kind"] == "step" for each in read_lines(folder / "run" / "metrics.jsonl"))


def wait_for(holds: Callable[[], bool], what: str) -> None:
    ends_at = time.monotonic() + RUN_SECONDS
    while not holds():
        assert time.monotonic() < ends_at, f"no {what} within {RUN_SECONDS:g} s"
        time.sleep(0.2)


def roles_in(processes: list[psutil.Process]) -> set[str]:
    titles = [" ".join(each.cmdline()) for each in processes if each.is_running()]
    return {role for role, title in TITLES.items() if any(words.startswith(title) for words in titles)}
