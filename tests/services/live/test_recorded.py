"""Changes that a run knows of and its control plane does not: replayed ones, or those of a store that is gone."""

from control_builders import CALLER, started_run

from services.control.live_config import ConfigAnswer

RATE, STEPS = "learner.optimizer.learning_rate", "run.steps"
CHANGES = [
    {"generation": 2, "step": 6, "values": {RATE: 2e-6}},
    {"generation": 3, "step": 8, "values": {STEPS: 9, RATE: 3e-6}},
]


async def test_a_control_plane_takes_them_over_and_counts_on_from_them() -> None:
    async with started_run() as run:
        await run.tell("config_recorded", changes=CHANGES)
        found = [(each.generation, each.at_step, dict(each.values)) for each in run.control.configs]
        assert found == [(2, 6, {RATE: 2e-6}), (3, 8, {STEPS: 9, RATE: 3e-6})]
        assert {each.by for each in run.control.configs} == {"recorded"}
        answer = await run.control.change_config({RATE: 4e-6}, 3, CALLER)
        assert isinstance(answer, ConfigAnswer) and answer.generation == 4
        # Told once more, as by the next process of the run, they change nothing.
        before = run.control.configs
        await run.tell("config_recorded", changes=CHANGES)
        assert run.control.configs == before
