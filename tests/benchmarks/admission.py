"""The orchestrator over roles that only wait, on a virtual clock: python -m tests.benchmarks.admission [--json]

Cost: CPU time of the whole process, the simulated roles included, per group that ended: admission, dispatch, shaping
call, buffer, learner plan, weight sync, merged metrics of the recipe's own shaping. Batch, learner speed and shaping
workers grow with the engines, 16 groups a step each on 8 slots, so that 1,000 of them do 100 times the work of 10.
`orchestrator_flatness` is the median ratio of runs that followed one another.

Efficiency: max(generation, shaping, training) + weight sync over the time of a step, in simulated seconds, with
lognormal response lengths; the lowest of three regimes, engines slower, learner slower, both equal, at a staleness of
at most 2. Other bounds are in the table.
"""

from pathlib import Path
from statistics import median

from services.recipe import Recipe, load_recipe
from services.simulation.service_times import Distribution, ServiceTimes
from services.simulation.simulate import SimulatedRun, simulate
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import use_one_core

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "qwen2.5-7b.yaml"
GROUPS_PER_WORKER = 16
MAX_STALENESS = 2
COSTS = ((10, 120), (1000, 8))
"""Rollout workers, steps: long enough for a CPU clock of 10 ms, short enough to wait for."""
ROUNDS = 3
REGIMES = {"slow_engines": 5.0e-4, "slow_learner": 1.2e-3, "balanced": 8.2e-4}
"""Seconds of the learner per token and worker."""
EFFICIENCY_WORKERS, EFFICIENCY_STEPS = 16, 40


def make_recipe(num_workers: int, *, num_steps: int, max_staleness: int = MAX_STALENESS) -> Recipe:
    """A recipe of the service with as much work for every engine, however many there are."""
    return load_recipe(
        RECIPE,
        {
            "rollout.groups_per_step": GROUPS_PER_WORKER * num_workers,
            "rollout.engine.max_num_seqs": 64,
            "learner.mini_batch_groups": 0,
            "learner.num_ranks": 2 * num_workers,
            "cluster.num_shaping_workers": max(1, num_workers // 10),
            "run.max_staleness": max_staleness,
            "run.steps": num_steps,
        },
    )


def make_times(num_workers: int, train_token_s: float) -> ServiceTimes:
    """Responses of 800 tokens on average at 50 tokens/s, and a learner that grows with the number of workers."""
    return ServiceTimes(
        response_tokens=Distribution(kind="lognormal", mean=800, spread=0.6),
        prompt_tokens=100,
        decode_token_s=0.02,
        shaping_s=Distribution(kind="exponential", mean=0.005),
        train_token_s=Distribution(kind="lognormal", mean=train_token_s / num_workers, spread=0.05),
        transfer_s=Distribution(kind="constant", mean=1.0),
        commit_s=Distribution(kind="constant", mean=0.2),
        keep_share=0.7,
    )


def run_regime(regime: str, *, num_workers: int, num_steps: int, max_staleness: int = MAX_STALENESS) -> SimulatedRun:
    run = simulate(
        make_recipe(num_workers, num_steps=num_steps, max_staleness=max_staleness),
        make_times(num_workers, REGIMES[regime]),
        num_workers=num_workers,
    )
    assert not run.failure, run.failure
    return run


def measure_cost(costs: tuple[tuple[int, int], ...], num_rounds: int) -> tuple[dict[str, float], list[Row]]:
    """CPU microseconds per group with few and with many workers, in turn."""
    (few, _), (many, _) = costs
    found: dict[int, list[float]] = {few: [], many: []}
    rows: list[Row] = []
    for _ in range(num_rounds):
        for num_workers, num_steps in costs:
            run = run_regime("balanced", num_workers=num_workers, num_steps=num_steps)
            found[num_workers].append(run.cpu_us_per_group)
            rows.append({"workers": num_workers, "groups": run.num_groups, "us_per_group": run.cpu_us_per_group})
    ratios = [b / a for a, b in zip(found[few], found[many], strict=True)]
    figures = {
        "orchestrator_us_per_group": median(found[many]),
        f"orchestrator_us_per_group_{few}": median(found[few]),
        "orchestrator_flatness": median(ratios),
    }
    return figures, rows


def measure_efficiency(num_workers: int, num_steps: int) -> tuple[dict[str, float], list[Row]]:
    """How near a step comes to its bound, by regime and by bound on staleness."""
    rows: list[Row] = []
    bounded: list[SimulatedRun] = []
    for max_staleness in (0, 1, MAX_STALENESS, 4):
        for regime in REGIMES:
            run = run_regime(regime, num_workers=num_workers, num_steps=num_steps, max_staleness=max_staleness)
            rows.append(
                {
                    "regime": regime,
                    "max_staleness": max_staleness,
                    "efficiency": run.efficiency,
                    "learner_idle": run.learner_idle_share,
                    "rollout_idle": run.rollout_idle_share,
                    "staleness_mean": run.staleness_mean,
                    "staleness_max": run.staleness_max,
                    "step_seconds": run.step_s,
                }
            )
            if max_staleness == MAX_STALENESS:
                bounded.append(run)
    figures = {
        "async_efficiency_simulated": min(run.efficiency for run in bounded),
        "learner_idle_share_slow_learner": bounded[list(REGIMES).index("slow_learner")].learner_idle_share,
        "rollout_idle_share_slow_engines": bounded[list(REGIMES).index("slow_engines")].rollout_idle_share,
        "max_staleness": float(MAX_STALENESS),
        "staleness_max": float(max(run.staleness_max for run in bounded)),
        "keep_share": bounded[0].keep_share,
    }
    return figures, rows


def measure(*, core: int | None) -> Report:
    cost, cost_rows = measure_cost(COSTS, ROUNDS)
    efficiency, efficiency_rows = measure_efficiency(EFFICIENCY_WORKERS, EFFICIENCY_STEPS)
    rows = {"cost": cost_rows, "efficiency": efficiency_rows}
    return Report(benchmark="admission", core=core, figures={**cost, **efficiency}, rows=rows)


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    write_report(measure(core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
