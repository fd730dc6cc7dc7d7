"""The whole loop beside TRL's, and asynchrony beside its bound: python -m tests.benchmarks.loop [--json] [--trl DIR]

`over_trl`, `over_trl_sync`: samples per second of `lessrl train`, asynchronous and synchronous, over those of TRL's
GRPOTrainer. Same policy, problems in the same order, samples per step, length limit, loss, optimizer, precision and
cores; plain torch trains on both sides; LESS stays on. TRL gets the number of threads and of micro-batches with which
it was fastest here.
`async_efficiency_real`: max(generation, training) + sync, each as long as in synchronous steps, over the step time of
an asynchronous run; one thread samples and one trains.
All runs of a comparison live at once on two cores and work in turns; a figure is the median over pairs of turns.
TRL has an environment of its own in DIR, made at first use; WHEELS names a folder with a CPU build of torch.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from tests.benchmarks.live_runs import LiveRun, start_run, take_turns
from tests.benchmarks.report import Report, Row, make_parser, write_report

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "deploy" / "recipes" / "quickstart.yaml"
POLICY = ROOT / "deploy" / "quickstart" / "policy"
TRL_PACKAGES = ("trl==1.16.0", "torch==2.13.0", "math-verify[antlr4-13-2]>=0.8")
NUM_GROUPS, GROUP_SIZE, MAX_RESPONSE_TOKENS, LEARNING_RATE = 16, 8, 128, 1e-4
NUM_CORES = 2
NUM_TURNS, STEPS_PER_TURN, NUM_WARM_UP_STEPS = 8, 4, 3
MANY_STEPS = 100_000
NEVER = "1000000"

COMMON = {
    "rollout.selector.kind": "sequential",
    "rollout.groups_per_step": NUM_GROUPS,
    "rollout.group_size": GROUP_SIZE,
    "rollout.sampling.max_response_tokens": MAX_RESPONSE_TOKENS,
    "learner.optimizer.learning_rate": LEARNING_RATE,
    "run.steps": MANY_STEPS,
    "learner.micro_batch_tokens": 16384,
    "evaluation.every_steps": 0,
    "evaluation.num_problems": 8,
    "cluster.local_cpus": 4,
    "run.checkpoint.every_steps": 0,
    # A stopped run answers nothing, and that is no failure.
    "run.deadlines.heartbeat_seconds": NEVER,
}
SYNCHRONOUS = {"run.max_staleness": 0}
ASYNCHRONOUS = {"run.max_staleness": 1}
ONE_CORE_EACH = {"learner.num_ranks": 1}
ONE_PROCESS = {"learner.engine": "torch", "learner.num_ranks": 1}
"""TRL's own kind of learner."""
BOTH_CORES = {"cluster.learner.num_threads": NUM_CORES}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlOptions:
    """How TRL is run.

    Args:
        environment: folder of its virtual environment.
        wheels: folder with wheels beside the registry's; "" for none.
    """

    environment: Path
    wheels: str
    num_threads: int
    num_micro_batches: int

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"


Setting = str | int | float


def is_step_record(line: str) -> bool:
    """Of metrics.jsonl."""
    found: bool = json.loads(line)["kind"] == "step"
    return found


def start_ours(folder: Path, settings: Mapping[str, Setting]) -> LiveRun:
    """`lessrl train` on the quickstart recipe, with a Ray of its own."""
    run_dir = folder / "run"
    words = [
        sys.executable,
        "-m",
        "services.cli",
        "train",
        str(RECIPE),
        "--address",
        "local",
        "--run-dir",
        str(run_dir),
    ]
    for key, value in {**COMMON, **settings}.items():
        words += ["--set", f"{key}={value}"]
    return start_run(
        words,
        cwd=ROOT,
        environment={"PYTHONPATH": str(ROOT)},
        lines=run_dir / "metrics.jsonl",
        is_step=is_step_record,
        output=folder / "output.txt",
    )


def install_trl(options: TrlOptions) -> None:
    """Make TRL's environment unless it is there."""
    if options.python.exists():
        return
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(options.environment)], check=True)
    wheels = ["--find-links", options.wheels] if options.wheels else []
    words = [*uv, "pip", "install", "--quiet", "--python", str(options.python), *wheels, *TRL_PACKAGES]
    subprocess.run(words, stdout=sys.stderr, check=True)


def start_trl(folder: Path, options: TrlOptions) -> LiveRun:
    lines = folder / "steps.txt"
    task = {
        "lines": str(lines),
        "model_path": str(POLICY),
        "max_steps": MANY_STEPS,
        "num_groups": NUM_GROUPS,
        "group_size": GROUP_SIZE,
        "num_micro_batches": options.num_micro_batches,
        "num_threads": options.num_threads,
        "max_response_tokens": MAX_RESPONSE_TOKENS,
        "learning_rate": LEARNING_RATE,
    }
    return start_run(
        [str(options.python), "-m", "tests.benchmarks.trl_side", json.dumps(task)],
        cwd=ROOT,
        environment={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.num_threads), "HF_HUB_OFFLINE": "1"},
        lines=lines,
        is_step=bool,
        output=folder / "output.txt",
    )


def compare(
    starters: Mapping[str, Callable[[Path], LiveRun]], folder: Path, *, num_turns: int
) -> dict[str, list[float]]:
    """Seconds per step of every turn; each run in a folder of its own below `folder`."""
    makers: dict[str, Callable[[], LiveRun]] = {}
    for name, start in starters.items():
        (folder / name).mkdir()
        makers[name] = partial(start, folder / name)
    return take_turns(makers, num_turns=num_turns, steps_per_turn=STEPS_PER_TURN, num_warm_up_steps=NUM_WARM_UP_STEPS)


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median over the pairs."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def to_rows(seconds: Mapping[str, list[float]]) -> list[Row]:
    names = list(seconds)
    return [
        {"turn": index, **{name: seconds[name][index] for name in names}} for index in range(len(seconds[names[0]]))
    ]


def measure_trl(options: TrlOptions, *, num_turns: int) -> tuple[dict[str, float], list[Row]]:
    install_trl(options)
    starters = {
        "trl": partial(start_trl, options=options),
        "synchronous": partial(start_ours, settings=ONE_PROCESS | BOTH_CORES | SYNCHRONOUS),
        "asynchronous": partial(start_ours, settings=ONE_PROCESS | ASYNCHRONOUS),
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(starters, Path(folder), num_turns=num_turns)
    figures = {
        "over_trl": ratio(seconds["trl"], seconds["asynchronous"]),
        "over_trl_sync": ratio(seconds["trl"], seconds["synchronous"]),
        **{f"{name}_step_seconds": median(each) for name, each in seconds.items()},
    }
    return figures, to_rows(seconds)


def measure_asynchrony(*, num_turns: int) -> tuple[dict[str, float], list[Row]]:
    starters = {
        "synchronous": partial(start_ours, settings=ONE_CORE_EACH | SYNCHRONOUS),
        "asynchronous": partial(start_ours, settings=ONE_CORE_EACH | ASYNCHRONOUS),
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(starters, Path(folder), num_turns=num_turns)
        turns = phases_by_turn(Path(folder) / "synchronous" / "run" / "metrics.jsonl", num_turns=num_turns)
    bounds = [max(each["wait_batch"], each["train"]) + each["weight_sync"] for each in turns]
    figures = {
        "async_efficiency_real": ratio(bounds, seconds["asynchronous"]),
        "async_over_sync": ratio(seconds["synchronous"], seconds["asynchronous"]),
        **{f"{name}_seconds": median(each[name] for each in turns) for name in turns[0]},
    }
    rows = [
        row | {"bound": bound} | dict(phases)
        for row, bound, phases in zip(to_rows(seconds), bounds, turns, strict=True)
    ]
    return figures, rows


def phases_by_turn(metrics: Path, *, num_turns: int) -> list[dict[str, float]]:
    """Median seconds of each phase in each turn, but for the turn's first step: it began before the stop."""
    steps = [json.loads(line) for line in metrics.read_text().splitlines() if is_step_record(line)]
    turns = []
    for index in range(num_turns):
        first = NUM_WARM_UP_STEPS + index * STEPS_PER_TURN + 1
        phases = [step["phase_seconds"] for step in steps[first : first + STEPS_PER_TURN - 1]]
        turns.append({name: median(each[name] for each in phases) for name in ("wait_batch", "train", "weight_sync")})
    return turns


def use_cores(number: int) -> None:
    """Pin this process and those it starts to the cores that were idlest for half a second."""
    if hasattr(os, "sched_setaffinity"):
        busy = psutil.cpu_percent(interval=0.5, percpu=True)
        idlest = sorted(os.sched_getaffinity(0), key=lambda core: (busy[core], core))
        os.sched_setaffinity(0, set(idlest[:number]))


def measure(options: TrlOptions, *, num_turns: int) -> Report:
    parts = {
        "trl": measure_trl(options, num_turns=num_turns),
        "asynchrony": measure_asynchrony(num_turns=num_turns),
    }
    figures = {name: value for part, _ in parts.values() for name, value in part.items()}
    return Report(benchmark="loop", core=None, figures=figures, rows={name: rows for name, (_, rows) in parts.items()})


def main() -> None:
    parser = make_parser(__doc__ or "")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lessrl" / "trl"
    parser.add_argument("--trl", type=Path, default=cache, help="folder of TRL's environment")
    parser.add_argument("--trl-threads", type=int, default=NUM_CORES)
    parser.add_argument("--trl-micro-batches", type=int, default=2)
    parser.add_argument("--turns", type=int, default=NUM_TURNS, help="pairs of turns of every comparison")
    arguments = parser.parse_args()
    options = TrlOptions(
        environment=arguments.trl,
        wheels=os.environ.get("WHEELS", ""),
        num_threads=arguments.trl_threads,
        num_micro_batches=arguments.trl_micro_batches,
    )
    use_cores(NUM_CORES)
    write_report(measure(options, num_turns=arguments.turns), as_json=arguments.json)


if __name__ == "__main__":
    main()
