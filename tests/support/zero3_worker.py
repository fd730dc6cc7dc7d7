"""One ZeRO-3 rank of the tests: python zero3_worker.py RANK NUM_RANKS PORT POLICY_DIR OUT_DIR.

Runs every case on one process group and writes what rank 0 found; other files hold what each rank found.
"""

import logging
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from learner_builders import make_batch, make_work
from safetensors.torch import load_file
from zero3_cases import LORA, Case, RecordingDeepSpeedEngine, cases_of, run_case

from learner.config import ZeroConfig
from learner.deepspeed_engine import DeepSpeedEngine
from learner.learner import Learner
from rollout.process_group_receiver import ProcessGroupReceiver
from rollout.weight_staging import StagedWeights, receive_all, unpack
from shaping.errors import ChannelBroken
from shaping.training import WeightChannel

PLAIN = Case(options={"layout": "packed", "micro_batch_tokens": 60, "mini_batch_groups": 1})
SKIPPING = {
    "plain": {},
    "offloaded": {"zero": ZeroConfig(persistence_threshold=0, offload_optimizer=True)},
    "bfloat16": {"dtype": "bfloat16"},
}


class Rank:
    """What one process does."""

    def __init__(self, rank: int, num_ranks: int, port: int, policies: Path, out: Path) -> None:
        self.rank, self.num_ranks, self.port = rank, num_ranks, port
        self.policies, self.out = policies, out

    def engine(self, kind: type[DeepSpeedEngine], case: Case) -> DeepSpeedEngine:
        return kind(
            case.config("deepspeed", self.num_ranks),
            model_path=str(self.policies / case.policy),
            seed=0,
            rank=self.rank,
            address="127.0.0.1",
            port=self.port,
            timeout_s=60,
        )

    def learner(self, case: Case = PLAIN) -> Learner:
        config = case.config("deepspeed", self.num_ranks)
        model_path = str(self.policies / case.policy)
        learner = Learner(config, engine=self.engine(DeepSpeedEngine, case), model_path=model_path, rank=self.rank)
        learner.start()
        return learner

    def step(self, learner: Learner, step: int) -> None:
        learner.step(make_work(make_batch(12), PLAIN.config("deepspeed", self.num_ranks), rank=self.rank, step=step))

    def write(self, name: str, value: object) -> None:
        if self.rank == 0:
            torch.save(value, self.out / f"{name}.pt")

    def parity(self) -> None:
        for name, case in cases_of(self.num_ranks).items():
            engine = self.engine(RecordingDeepSpeedEngine, case)
            config = case.config("deepspeed", self.num_ranks)
            result = run_case(case, engine, config, str(self.policies / case.policy), self.rank)
            with engine.gathered(tuple(engine.gradients)) as tensors:
                weights = dict(zip(engine.gradients, (each.clone() for each in tensors), strict=True))
            ratios = result.histograms["learner_importance_ratio"]
            numbers = {"metrics": result.metrics, "ratios": (ratios.count, ratios.total)}
            self.write(name, {"gradients": engine.gradients, "weights": weights, **numbers})

    def determinism(self) -> None:
        for name in ("first", "second"):
            learner = self.learner()
            self.step(learner, 0)
            if name == "first":
                learner.save(self.out / "state")
            self.step(learner, 1)
            learner.export(self.out / name)
        resumed = self.learner()
        resumed.load(self.out / "state")
        self.step(resumed, 1)
        resumed.export(self.out / "resumed")

    def weights(self) -> None:
        learner = self.learner()
        self.step(learner, 0)
        self.broken_transfer(learner)
        channel = WeightChannel(backend="gloo", address="127.0.0.1", port=self.port + 2, world_size=2)
        if self.rank != 0:
            learner.connect_weights(channel)
            learner.send_weights(1)
            learner.export(self.out / "sent")
            return
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.receive, channel, learner)
            learner.connect_weights(channel)
            manifest = learner.send_weights(1)
            staged = future.result(timeout=60)
        learner.export(self.out / "sent")
        assert staged.checksums == manifest.checksums
        received, exported = dict(unpack(staged)), load_file(self.out / "sent" / "model.safetensors")
        same = received.keys() == exported.keys() and all(torch.equal(received[n], exported[n]) for n in received)
        self.write("sent", {"same": same, "num_buckets": len(manifest.layout.buckets)})

    def broken_transfer(self, learner: Learner) -> None:
        """A receiver that leaves at once: the ranks stay together, and a new channel is all that is needed."""
        channel = WeightChannel(backend="gloo", address="127.0.0.1", port=self.port + 1, world_size=2)
        if self.rank != 0:
            learner.connect_weights(channel)
            learner.send_weights(1)
            return
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(lambda: self.receiver(channel).close())
            learner.connect_weights(channel)
            future.result(timeout=60)
            try:
                learner.send_weights(1)
                found = "no error"
            except ChannelBroken as error:
                found = str(error)
        self.write("broken_transfer", found)

    @staticmethod
    def receiver(channel: WeightChannel) -> ProcessGroupReceiver:
        return ProcessGroupReceiver(
            WeightChannel(backend="gloo", address=channel.address, port=channel.port, world_size=2, first_rank=1),
            worker_index=0,
            timeout_s=60,
            device=torch.device("cpu"),
        )

    def receive(self, channel: WeightChannel, learner: Learner) -> StagedWeights:
        receiver = self.receiver(channel)
        return receive_all(receiver, learner.weight_layout(), policy_version=1, timeout_s=60)

    def skipped_steps(self) -> None:
        """A good step, one with a number that one rank alone sees and that is not finite, a good step; and without."""
        for name, options in SKIPPING.items():
            case = Case(options={"layout": "packed", "micro_batch_tokens": 60, **options})
            config = case.config("deepspeed", self.num_ranks)
            learner, spared = self.learner(case), self.learner(case)
            bad = make_batch(12)
            bad[5].advantages[-1] = math.nan
            for step, samples in enumerate((make_batch(12, seed=1), bad, make_batch(12, seed=2))):
                work = make_work(samples, config, rank=self.rank, step=step)
                result = learner.step(work)
                if samples is bad:
                    parts = [part for update in work.mini_batches for part in update.micro_batches]
                    holds_it = any(sample is bad[5] for part in parts for sample in part)
                    found = {"skipped": result.skipped, "metrics": result.metrics, "holds_it": holds_it}
                    torch.save(found, self.out / f"skipped_{name}_{self.rank}.pt")
                    learner.export(self.out / f"{name}_after_skip")
                    spared.export(self.out / f"{name}_before_skip")
                else:
                    spared.step(work)
            learner.export(self.out / f"{name}_end")
            spared.export(self.out / f"{name}_spared")

    def bfloat16(self) -> None:
        for name, options in (("bfloat16", {}), ("bfloat16_lora", LORA)):
            learner = self.learner(Case(options={"layout": "packed", **options, "dtype": "bfloat16"}))
            self.step(learner, 0)
            learner.export(self.out / name)

    def close(self) -> None:
        """Leave the group as a learner does, twice."""
        learner = self.learner()
        learner.close()
        learner.close()


def main() -> None:
    began = time.perf_counter()
    logging.basicConfig(level=logging.INFO)
    rank, num_ranks, port = (int(each) for each in sys.argv[1:4])
    worker = Rank(rank, num_ranks, port, Path(sys.argv[4]), Path(sys.argv[5]))
    torch.set_num_threads(1)
    parts = [worker.parity, worker.determinism, worker.weights, worker.skipped_steps, worker.bfloat16, worker.close]
    for part in parts if num_ranks > 1 else parts[:1]:
        part()
        logging.info("rank %d: %s done after %.1f s", rank, part.__name__, time.perf_counter() - began)


if __name__ == "__main__":
    main()
