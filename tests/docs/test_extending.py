"""The worked example of docs/extending.md works as it is written: its files, put into a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, Page

PAGE = Page(path=ROOT / "docs" / "extending.md", text=(ROOT / "docs" / "extending.md").read_text())
FOLDERS = (
    *("services", "rollout", "learner", "shaping", "deploy/quickstart", "deploy/recipes"),
    *("tests/contracts", "tests/support", "tests/deploy"),
)
PRESET = "deploy/recipes/methods/brevity.yaml"
REST: dict[str, object] = {
    "name": "small",
    "model": {"path": "deploy/quickstart/policy"},
    "data": {"train": {"kind": "arithmetic_task", "size": 16}},
    "rollout": {
        "engine": {"kind": "hf", "dtype": "float32"},
        "groups_per_step": 2,
        "group_size": 2,
        "max_prompt_tokens": 64,
        "sampling": {"max_response_tokens": 32},
    },
    "learner": {"engine": "torch", "dtype": "float32", "micro_batch_tokens": 256},
    "run": {"steps": 1},
    "cluster": {"device": "cpu", "rollout": {"num_cpus": 1}, "learner": {"num_cpus": 1}},
}
"""What a recipe needs beside the part that the page shows: a step in one process."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files of the page, and a recipe to put its preset on."""
    copy = tmp_path_factory.mktemp("project")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    files = [block for block in PAGE.blocks() if re.match(r"# (shaping|tests|deploy)/", block.text)]
    assert len(files) == 3
    for block in files:
        head, _, text = block.text.partition("\n")
        path = copy / head.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (copy / "recipe.yml").write_text(yaml.safe_dump(REST))
    return copy


def run_in(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_contract_tests_find_the_example_and_its_own_test_holds(project: Path) -> None:
    words = ("pytest", "-q", "-p", "no:cacheprovider", "-k", "brevity", "tests/contracts/test_shaping_plugins.py")
    done = run_in(project, *words, "tests/shaping/test_brevity.py")
    assert done.returncode == 0, done.stdout
    # Six of its own; the contract: builds, refuses options, three references, decides, known answers.
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 6 + 7


def test_a_recipe_may_name_the_example_and_no_option_that_it_has_not(project: Path) -> None:
    assert run_in(project, "services.cli", "plan", "recipe.yml", "--with", PRESET).returncode == 0
    wrong = run_in(
        project, "services.cli", "plan", "recipe.yml", "--set", "shaping.rewards=[{kind: brevity, target: 1}]"
    )
    assert (wrong.returncode, "did you mean 'target_tokens'?" in wrong.stderr) == (2, True)


def test_its_preset_and_its_page_follow_without_another_file(project: Path) -> None:
    words = (
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "brevity and not qwen",
        "tests/deploy/test_method_presets.py",
    )
    done = run_in(project, *words)
    assert done.returncode == 0, done.stdout
    # What it says, the quickstart, what it leaves alone, and itself beside each of at least 20 others.
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 3 + 20
    page = run_in(project, "services.method_reference").stdout
    assert f"| [brevity](../{PRESET}) | Brevity: pays responses that are short. |" in page
    assert "### rewards: brevity" in page and "- presets: brevity" in page


@pytest.mark.slow
def test_a_step_is_trained_with_the_example_and_reports_it(project: Path) -> None:
    done = run_in(project, "services.cli", "train", "recipe.yml", "--with", PRESET, "--address", "house")
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (project / "runs" / "small" / "metrics.jsonl").read_text().splitlines())
    (step,) = (line for line in lines if line["kind"] == "step")
    # At most 32 tokens of a target of 64: paid in full.
    assert step["metrics"]["reward_brevity_value"] == 1.0
