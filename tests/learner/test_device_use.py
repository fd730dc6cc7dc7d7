"""What is said of a learner's devices, and that nothing is said where nothing is known."""

import pytest
import torch
from learner_builders import make_batch, make_work

from learner.config import LearnerConfig, LoraConfig
from learner.device_use import PEAK_FLOPS, memory_metrics, peak_flops, utilization_metrics
from learner.torch_learner import torch_learner
from shaping.metrics import merge_metrics, metric_values

SHARE = "learner_model_flops_utilization_share"


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
    ],
)
def test_the_peak_of_a_device_follows_from_its_name(name: str, tera: float) -> None:
    assert peak_flops(name, "bfloat16") == tera * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA L40", "Tesla T4", "", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_a_device_that_is_not_in_the_table_has_no_peak(name: str) -> None:
    assert peak_flops(name, "bfloat16") is None


def test_a_peak_is_that_of_bfloat16_alone() -> None:
    assert peak_flops("NVIDIA H200", "float32") is None


def test_a_name_that_holds_another_one_comes_first() -> None:
    names = [name for name, _ in PEAK_FLOPS]
    for index, name in enumerate(names):
        assert not [later for later in names[index + 1 :] if f" {name} " in f" {later} "]


def test_ranks_share_the_arithmetic_of_all_their_tokens() -> None:
    # 6 x 100 parameters x 30 tokens = 18,000 of 2 s x 10,000 a second; the other rank did 10 tokens in the same time:
    # 24,000 of 40,000.
    ranks = [
        utilization_metrics(LearnerConfig(), num_parameters=100, num_tokens=tokens, seconds=2.0, peak=1e4)
        for tokens in (30, 10)
    ]
    assert metric_values(ranks[0]) == {SHARE: 0.9}
    assert metric_values(merge_metrics(ranks)) == {SHARE: 0.6}


def test_frozen_weights_under_lora_need_no_gradient() -> None:
    config = LearnerConfig(lora=LoraConfig(rank=8))
    found = utilization_metrics(config, num_parameters=100, num_tokens=30, seconds=2.0, peak=1e4)
    assert metric_values(found) == {SHARE: 0.6}


def test_without_a_peak_nothing_is_said() -> None:
    assert utilization_metrics(LearnerConfig(), num_parameters=1, num_tokens=1, seconds=1.0, peak=None) == {}
    assert memory_metrics(torch.device("cpu")) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has memory to tell of")
def test_a_learner_on_cpus_says_nothing_of_devices(tied_policy_path: str) -> None:
    config = LearnerConfig(engine="torch", dtype="float32")
    learner = torch_learner(config, model_path=tied_policy_path, seed=0)
    learner.start()
    metrics = learner.step(make_work(make_batch(4), config)).metrics
    assert not [name for name in metrics if "memory" in name or "utilization" in name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose memory is what is measured")
def test_a_learner_on_a_gpu_tells_of_its_memory(tied_policy_path: str) -> None:
    config = LearnerConfig(engine="torch", dtype="float32")
    learner = torch_learner(config, model_path=tied_policy_path, seed=0)
    learner.start()
    # Far above what a step of this policy needs: the peak is that of the step alone.
    torch.empty(2**28, dtype=torch.uint8, device="cuda")
    metrics = learner.step(make_work(make_batch(4), config)).metrics
    allocated, reserved, peak = (metrics[f"learner_memory_{kind}_bytes"] for kind in ("allocated", "reserved", "peak"))
    assert 0 < allocated <= peak < 2**28 <= reserved
