"""One rank of the tests of saved learners: python zero3_state_worker.py PHASE RANK NUM_RANKS PORT POLICY_DIR OUT_DIR.

Phase "straight" trains four steps of every case and saves after the second. Phase "resumed", in new processes, loads
that and trains the last two; it also loads what the group of the other size saved. Every rank writes what it found.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from file_limits import files_up_to
from learner_builders import make_batch, make_work
from zero3_cases import Case

from learner.config import KLConfig, LoraConfig, ZeroConfig
from learner.deepspeed_engine import DeepSpeedEngine
from learner.learner import Learner
from learner.torch_learner import torch_learner
from shaping.errors import CheckpointError

COMMON = {
    "layout": "packed",
    "micro_batch_tokens": 60,
    "mini_batch_groups": 1,
    "num_epochs": 2,
    "kl": KLConfig(coefficient=0.1),
}
OFFLOADED = {"offload_optimizer": True, "offload_parameters": True}

STATES = {
    "float32": Case(options=COMMON),
    # The default threshold: every parameter of the tiny policy stays whole on every rank.
    "bfloat16": Case(options={**COMMON, "dtype": "bfloat16", "zero": ZeroConfig()}),
    "offloaded": Case(
        options={**COMMON, "dtype": "bfloat16", "zero": ZeroConfig(persistence_threshold=0, **OFFLOADED)}
    ),
    "adapters": Case(policy="untied", options={**COMMON, "lora": LoraConfig(rank=4, alpha=8.0)}),
}
SUB_GROUPED = "float32"
"""The case whose optimizer updates several groups of parameters, as that of a policy of billions does."""


class SubGroupedEngine(DeepSpeedEngine):
    """Several groups even for the tiny policy."""

    sub_group_elements = 20_000


class Rank:
    """What one process does."""

    def __init__(self, rank: int, num_ranks: int, port: int, policies: Path, out: Path) -> None:
        self.rank, self.num_ranks, self.port = rank, num_ranks, port
        self.policies, self.out = policies, out

    def learner(self, name: str) -> tuple[Learner, Any]:
        case = STATES[name]
        config, model_path = case.config("deepspeed", self.num_ranks), str(self.policies / case.policy)
        kind = SubGroupedEngine if name == SUB_GROUPED else DeepSpeedEngine
        engine = kind(
            config, model_path=model_path, seed=0, rank=self.rank, address="127.0.0.1", port=self.port, timeout_s=60
        )
        learner = Learner(config, engine=engine, model_path=model_path, rank=self.rank)
        learner.start()
        self.latest = learner
        return learner, engine

    def step(self, learner: Learner, name: str, step: int) -> dict[str, float]:
        config = STATES[name].config("deepspeed", self.num_ranks)
        return exact(learner.step(make_work(make_batch(12), config, rank=self.rank, step=step)).metrics)

    def write(self, name: str, value: object) -> None:
        torch.save(value, self.out / f"{name}.{self.num_ranks}.{self.rank}.pt")

    def saved(self, name: str, num_ranks: int) -> Path:
        return self.out / f"{name}_{num_ranks}"

    def straight(self) -> None:
        if self.num_ranks == 1:
            self.plain_torch(load=False)
        for name in STATES:
            learner, engine = self.learner(name)
            for step in (0, 1):
                self.step(learner, name, step)
            torch.manual_seed(100 + self.rank)
            files = learner.save(self.saved(name, self.num_ranks))
            self.write(f"{name}.files", [(each.path, each.num_bytes, each.sha256) for each in files])
            self.write(f"{name}.saved", state_of(engine))
            learner.export(self.out / f"{name}_{self.num_ranks}_exported")
            metrics = [self.step(learner, name, step) for step in (2, 3)]
            self.write(f"{name}.straight", {"metrics": metrics, "state": state_of(engine), "random": torch.rand(3)})
        learner, _ = self.learner("bfloat16")
        learner.save(self.saved("untrained", self.num_ranks))
        if self.num_ranks > 1:
            self.full_disk()

    def resumed(self) -> None:
        if self.num_ranks == 1:
            self.plain_torch(load=True)
        for name in STATES:
            learner, engine = self.learner(name)
            learner.load(self.saved(name, self.num_ranks))
            self.write(f"{name}.loaded", state_of(engine))
            metrics = [self.step(learner, name, step) for step in (2, 3)]
            self.write(f"{name}.resumed", {"metrics": metrics, "state": state_of(engine), "random": torch.rand(3)})
            learner, engine = self.learner(name)
            learner.load(self.saved(name, 3 - self.num_ranks))
            self.write(f"{name}.divided", state_of(engine))
            metrics = [self.step(learner, name, step) for step in (2, 3)]
            self.write(f"{name}.divided_on", {"metrics": metrics, "state": state_of(engine)})
        self.refused()

    def full_disk(self) -> None:
        """The last rank cannot write more than 10 kB into a file for the length of one save."""
        learner, _ = self.learner("float32")
        self.step(learner, "float32", 0)
        is_full = self.rank == self.num_ranks - 1
        with files_up_to(10_000) if is_full else nullcontext():
            found = error_of(lambda: learner.save(self.out / "full"))
        self.write("full", [found, error_of(lambda: learner.load(self.out / "full"))])
        self.step(learner, "float32", 1)
        learner.save(self.out / "with_room")

    def refused(self) -> None:
        """What lacks a part, what plain torch saved, what has no optimizer state, what there is no room to convert."""
        learner, _ = self.learner("bfloat16")
        learner.load(self.saved("untrained", self.num_ranks))
        self.write("untrained", error_of(lambda: learner.load(self.saved("untrained", 3 - self.num_ranks))))
        learner, _ = self.learner("float32")
        self.write("torn", error_of(lambda: learner.load(self.out / "torn")))
        self.write("foreign", error_of(lambda: learner.load(self.out / "torch")))
        with files_up_to(10_000) if self.rank == 0 else nullcontext():
            found = error_of(lambda: learner.load(self.saved("float32", 3 - self.num_ranks)))
        self.write("no_room", found)

    def plain_torch(self, *, load: bool) -> None:
        """First of all: transformers partitions whatever it loads once a ZeRO-3 learner has started."""
        config = Case(options=COMMON).config("torch", 1)
        learner = torch_learner(config, model_path=str(self.policies / "tied"), seed=0)
        learner.start()
        steps = [make_work(make_batch(12), config, step=step) for step in range(4)]
        if load:
            learner.load(self.out / "torch")
        else:
            for work in steps[:2]:
                learner.step(work)
            learner.save(self.out / "torch")
        metrics = [exact(learner.step(work).metrics) for work in steps[2:]]
        engine = learner._engine
        state = {"weights": engine._policy.state_dict(), "optimizer": engine._optimizer.state_dict()["state"]}
        result = {"metrics": metrics, "state": state, "random": torch.rand(3)}
        self.write("torch.resumed" if load else "torch.straight", result)


def exact(metrics: dict[str, float]) -> dict[str, float]:
    """Without the times."""
    return {name: value for name, value in metrics.items() if not name.endswith("_s")}


def state_of(engine: Any) -> dict[str, Any]:
    """Float32 values, optimizer moments and weights, whole and by name; steps that every parameter group counted."""
    found: dict[str, Any] = {}
    for name, parameter in engine._engine.module.named_parameters():
        if parameter.requires_grad:
            found[f"{name}/float32"] = safe_get_full_fp32_param(parameter).clone()
            for moment in ("exp_avg", "exp_avg_sq"):
                found[f"{name}/{moment}"] = safe_get_full_optimizer_state(parameter, moment).clone()
    names = [each.name for each in engine.parameters()]
    with engine.gathered(tuple(names)) as tensors:
        found |= {f"{name}/weight": tensor.clone() for name, tensor in zip(names, tensors, strict=True)}
    counters = [state["step"].item() for state in engine._optimizer.state.values()]
    found["steps"] = torch.tensor(sorted(set(counters)))
    found["num_groups"] = torch.tensor(len(counters))
    return found


def error_of(call: Any) -> str:
    try:
        call()
    except CheckpointError as error:
        return str(error)
    return "no error"


def main() -> None:
    phase = sys.argv[1]
    rank, num_ranks, port = (int(each) for each in sys.argv[2:5])
    torch.set_num_threads(1)
    worker = Rank(rank, num_ranks, port, Path(sys.argv[5]), Path(sys.argv[6]))
    {"straight": worker.straight, "resumed": worker.resumed}[phase]()
    # All learners of a process share one group: a rank that ended without leaving it could abort another.
    worker.latest.close()


if __name__ == "__main__":
    main()
