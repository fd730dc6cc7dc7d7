"""What decides imports without the heavy libraries being installed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "vllm", "deepspeed", "ray")

BLOCKED_IMPORT = """
import importlib
import importlib.machinery as machinery

find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.partition(".")[0] in {heavy!r} else find(name, path, target)
)
for module in {modules!r}:
    importlib.import_module(module)
"""


def modules_of(package: str) -> list[str]:
    """Every module below a package, in dotted form."""
    files = sorted((ROOT / package).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


LIGHT = {
    "shaping": modules_of("shaping"),
    "rollout": [
        *(name for part in ("plans", "selectors") for name in modules_of(f"rollout/{part}")),
        *("rollout.config", "rollout.engine", "rollout.engines", "rollout.buffer", "rollout.prompts", "rollout.worker"),
        *("rollout.requests", "rollout.render", "rollout.scripted_engine", "rollout.vllm_env", "rollout.arithmetic"),
        *("rollout.sources.arithmetic_task", "rollout.sources.jsonl", "rollout.sources.parquet"),
        *("rollout.sources.arrow", "rollout.sources.mixture", "rollout.record_batches"),
    ],
    "learner": ["learner.config", "learner.batch_plan", "learner.work", "learner.deepspeed_env"],
    "services": [
        *("services.study.command", "services.study.figure"),
        *("services.recipe", "services.recipe_reference", "services.plan", "services.plan_text", "services.reports"),
        *("services.ports", "services.orchestrator", "services.weight_sync", "services.session"),
        *("services.plan_checks", "services.evaluation.evaluator", "services.evaluation.run_book"),
        *("services.figure_style", "services.evaluation.table", "services.evaluation.figure"),
        *("services.evaluation.compare", "services.evaluation.compare_figure"),
        *(
            "services.control.machine",
            "services.control.run",
            "services.control.plane",
            "services.control.reconciler",
            "services.metrics.run_metrics",
            "services.api.app",
            "services.hosting.server",
        ),
        *("services.data.command", "services.explain.command", "services.group_dump", "services.cli"),
        *("services.run_dir", "services.progress", "services.history", "services.report_figure"),
        *("services.hint_figure", "services.data.steps_text"),
        *("services.live.settings", "services.live.resuming", "services.live.reference"),
        *("services.run_loggers", "services.metrics.field_names", *modules_of("services/loggers")),
        *("services.group_files", "services.run_lock", "services.recipe_changes", "services.checkpoints.command"),
    ],
}


@pytest.mark.parametrize("package", sorted(LIGHT))
def test_package_imports_without_the_heavy_libraries(package: str) -> None:
    script = BLOCKED_IMPORT.format(heavy=HEAVY, modules=LIGHT[package])
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_block_holds() -> None:
    script = BLOCKED_IMPORT.format(heavy=HEAVY, modules=["learner.policy"])
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in done.stderr
