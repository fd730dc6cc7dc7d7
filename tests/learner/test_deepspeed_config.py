import pytest

from learner.config import LearnerConfig, OptimizerConfig, ZeroConfig
from learner.deepspeed_config import deepspeed_config, reference_config
from learner.deepspeed_env import is_loopback, worker_environment


def test_accumulation_is_ours_and_clipping_is_deepspeeds() -> None:
    options = deepspeed_config(LearnerConfig(optimizer=OptimizerConfig(max_grad_norm=0.5)))
    assert options["gradient_accumulation_steps"] == 1
    assert options["gradient_clipping"] == 0.5
    assert options["zero_optimization"]["stage"] == 3


def test_bucket_bytes_become_elements_of_the_gradients_width() -> None:
    zero = ZeroConfig(reduce_bucket_bytes=800)
    wide = deepspeed_config(LearnerConfig(dtype="float32", zero=zero))["zero_optimization"]
    narrow = deepspeed_config(LearnerConfig(dtype="bfloat16", zero=zero))["zero_optimization"]
    assert (wide["reduce_bucket_size"], wide["stage3_prefetch_bucket_size"]) == (200, 20)
    assert (narrow["reduce_bucket_size"], narrow["stage3_prefetch_bucket_size"]) == (400, 40)


def test_bfloat16_accumulates_in_float32_and_float32_needs_no_switch() -> None:
    narrow = deepspeed_config(LearnerConfig(dtype="bfloat16"))
    assert narrow["bf16"] == {"enabled": True}
    assert narrow["data_types"] == {"grad_accum_dtype": "fp32"}
    assert not {"bf16", "data_types"} & deepspeed_config(LearnerConfig(dtype="float32")).keys()


def test_offloading_is_off_unless_asked_for_and_never_the_references() -> None:
    assert "offload_optimizer" not in deepspeed_config(LearnerConfig())["zero_optimization"]
    config = LearnerConfig(zero=ZeroConfig(offload_optimizer=True, offload_parameters=True))
    assert deepspeed_config(config)["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    reference = reference_config(config)["zero_optimization"]
    assert "offload_optimizer" not in reference
    assert reference["offload_param"]["device"] == "cpu"


def test_a_worker_on_the_cpu_listens_on_loopback_where_the_group_is_local() -> None:
    options = {"rank": 1, "num_ranks": 2, "port": 5, "device": "cpu"}
    local = worker_environment(address="127.0.0.1", **options)
    assert local["DS_ACCELERATOR"] == "cpu"
    assert (local["RANK"], local["WORLD_SIZE"], local["LOCAL_RANK"]) == ("1", "2", "1")
    assert local["OMP_NUM_THREADS"] == "1"
    assert local["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in worker_environment(address="10.0.0.7", **options)


def test_a_worker_that_sees_one_gpu_has_local_rank_zero() -> None:
    found = worker_environment(rank=3, num_ranks=4, address="10.0.0.7", port=5, device="cuda")
    assert (found["RANK"], found["LOCAL_RANK"], found["DS_ACCELERATOR"]) == ("3", "0", "cuda")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.7", False), ("node", False)],
)
def test_loopback_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
