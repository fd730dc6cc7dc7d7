"""A saved learner on one process with plain torch; ZeRO-3 groups save and load in test_zero3_state.py."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from file_limits import files_up_to
from learner_builders import make_batch, make_work, write_tiny_policy
from safetensors.torch import load_file

from learner.checkpoint_export import export_checkpoint
from learner.config import KLConfig, LearnerConfig, LoraConfig, OptimizerConfig
from learner.learner import Learner
from learner.state import LearnerIdentity, learner_identity, load_state, model_identity, together, write_tensors
from learner.torch_engine import TorchEngine
from learner.torch_learner import torch_learner
from shaping.errors import CheckpointError
from shaping.stored_files import stored_file


def make_config(**options: object) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "micro_batch_tokens": 60,
        "mini_batch_groups": 1,
        "num_epochs": 2,
        "kl": KLConfig(coefficient=0.1),
        "optimizer": OptimizerConfig(learning_rate=1e-3),
    }
    return LearnerConfig(**{**defaults, **options})


def make_learner(path: str, config: LearnerConfig | None = None) -> Learner:
    learner = torch_learner(config or make_config(), model_path=path, seed=0)
    learner.start()
    return learner


def step(learner: Learner, config: LearnerConfig, number: int) -> dict[str, float]:
    metrics = learner.step(make_work(make_batch(8), config, step=number)).metrics
    return {name: value for name, value in metrics.items() if not name.endswith("_s")}


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Weights and every moment and step count of the optimizer."""
    engine: Any = learner._engine
    moments = {
        f"{index}/{name}": value
        for index, entry in engine._optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    return {**{name: each.clone() for name, each in engine._policy.named_parameters()}, **moments}


def differing(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


@pytest.fixture
def saved(tied_policy_path: str, tmp_path: Path) -> Path:
    """A learner that was saved after one step."""
    learner = make_learner(tied_policy_path)
    step(learner, make_config(), 0)
    learner.save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=2, alpha=4.0)], ids=["weights", "adapters"])
@pytest.mark.parametrize("last_before", [0, 1, 2])
def test_straight_training_equals_save_load_and_the_rest(
    last_before: int, lora: LoraConfig, untied_policy_path: str, tmp_path: Path
) -> None:
    config = make_config(lora=lora)
    straight = make_learner(untied_policy_path, config)
    metrics = [step(straight, config, number) for number in range(4)]
    first = make_learner(untied_policy_path, config)
    for number in range(last_before + 1):
        step(first, config, number)
    first.save(tmp_path / "saved")
    step(first, config, 99)  # a save is not disturbed by what comes after it
    second = make_learner(untied_policy_path, config)
    second.load(tmp_path / "saved")
    assert [step(second, config, number) for number in range(last_before + 1, 4)] == metrics[last_before + 1 :]
    assert differing(state_of(second), state_of(straight)) == []
    assert differing(state_of(second), state_of(make_learner(untied_policy_path, config)) | moments(second)) != []


def moments(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state_of(learner).items() if name[0].isdigit()}


def test_random_draws_go_on_where_they_were(tied_policy_path: str, tmp_path: Path) -> None:
    learner = make_learner(tied_policy_path)
    torch.manual_seed(5)
    learner.save(tmp_path / "saved")
    drawn = torch.rand(4)
    other = make_learner(tied_policy_path)
    other.load(tmp_path / "saved")
    assert torch.equal(torch.rand(4), drawn)


def test_a_save_lists_every_file_under_its_directory_with_its_hash(tied_policy_path: str, tmp_path: Path) -> None:
    files = make_learner(tied_policy_path).save(tmp_path / "run" / "saved")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"run/saved/{each.path}" for each in files}
    assert all(each == stored_file(tmp_path / "run" / "saved", each.path) for each in files)


def test_options_of_the_recipe_hold_over_those_that_were_saved(tied_policy_path: str, saved: Path) -> None:
    config = make_config(optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.5, beta1=0.5))
    learner = make_learner(tied_policy_path, config)
    learner.load(saved)
    (group,) = learner._engine._optimizer.param_groups
    assert (group["weight_decay"], group["betas"]) == (0.5, (0.5, 0.999))


@pytest.mark.parametrize("name", ["learner.json", "engine.pt", "random-00000.pt"])
def test_a_saved_learner_without_one_of_its_files_is_refused_by_name(
    name: str, tied_policy_path: str, saved: Path
) -> None:
    (saved / name).unlink()
    learner = make_learner(tied_policy_path)
    before = state_of(learner)
    with pytest.raises(CheckpointError, match=rf"must hold .*{name}"):
        learner.load(saved)
    assert differing(before, state_of(learner)) == []


def test_a_file_cut_short_is_refused_by_name(tied_policy_path: str, saved: Path) -> None:
    whole = (saved / "engine.pt").read_bytes()
    (saved / "engine.pt").write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=rf"engine\.pt must have {len(whole)} bytes, found {len(whole) - 1}"):
        make_learner(tied_policy_path).load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {"lora": {}}}'])
def test_a_damaged_header_is_refused(text: str, tied_policy_path: str, saved: Path) -> None:
    (saved / "learner.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"learner\.json must be as it was written"):
        make_learner(tied_policy_path).load(saved)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            {"engine": "deepspeed"},
            "the engine that saved it: saved with torch, this run has deepspeed .*learner.engine",
        ),
        ({"dtype": "bfloat16"}, "the dtype that saved it: saved with float32, this run has bfloat16 .*learner.dtype"),
        ({"lora": LoraConfig(rank=4)}, "the lora that saved it.* set learner.lora back, or export"),
    ],
)
def test_another_kind_of_learner_is_refused(
    change: dict[str, Any], rule: str, tied_policy_path: str, saved: Path
) -> None:
    engine = make_learner(tied_policy_path)._engine
    identity = replace(learner_identity(make_config(), tied_policy_path), **change)
    with pytest.raises(CheckpointError, match=rule):
        load_state(engine, identity, saved, 0)


def test_another_starting_policy_is_refused_and_a_moved_one_is_not(
    tied_policy_path: str, saved: Path, tmp_path: Path
) -> None:
    other = write_tiny_policy(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"the model that saved it.* set model\.path back"):
        make_learner(other).load(saved)
    moved = Path(tied_policy_path).rename(tmp_path / "moved")
    try:
        make_learner(str(moved)).load(saved)
    finally:
        moved.rename(tied_policy_path)


def test_models_differ_by_one_weight_at_their_end_and_not_by_what_is_no_model(tmp_path: Path) -> None:
    path = write_tiny_policy(tmp_path / "policy")
    identity = model_identity(path)
    (tmp_path / "policy" / "notes.md").write_text("x")
    assert model_identity(path) == identity
    weights = tmp_path / "policy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_identity(path) != identity
    assert model_identity("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"


def test_a_directory_that_holds_something_is_not_saved_into(tied_policy_path: str, saved: Path) -> None:
    before = {path: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(CheckpointError, match=r"into an empty directory, found engine\.pt"):
        make_learner(tied_policy_path).save(saved)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    # /dev/full: every write fails with ENOSPC
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_tensors(Path("/dev/full"), {"weights": torch.zeros(100_000)})
    # 400 kB of weights, of which some are written before there is no more room
    for num_bytes in (600, 10_000, 399_000):
        with files_up_to(num_bytes), pytest.raises(OSError, match=r"too large: .*weights\.pt'"):
            write_tensors(tmp_path / "weights.pt", {"weights": torch.zeros(100_000)})


class FullDisk(TorchEngine):
    """An engine whose part does not fit."""

    def save(self, directory: Path) -> tuple[str, ...]:
        write_tensors(directory / "engine.pt", {"weights": torch.zeros(10)})
        write_tensors(Path("/dev/full"), {"weights": torch.zeros(10)})
        return ("engine.pt",)


def test_a_save_that_failed_says_why_and_is_never_taken_for_one(tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config()
    engine = FullDisk(config, model_path=tied_policy_path, seed=0)
    learner = Learner(config, engine=engine, model_path=tied_policy_path, rank=0)
    learner.start()
    with pytest.raises(CheckpointError, match=r"in full, failed with: No space left on device \(/dev/full\)"):
        learner.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"learner\.json, which is written last"):
        make_learner(tied_policy_path).load(tmp_path / "saved")


def test_one_rank_that_fails_fails_all_with_its_cause() -> None:
    # this rank is fine; what gather brings from the other is not
    with pytest.raises(CheckpointError, match="no room on rank 1"):
        together(lambda mine: [mine, (None, "no room on rank 1")], lambda: 3)
    assert together(lambda mine: [mine, (4, "")], lambda: 3) == [3, 4]


def test_an_identity_survives_its_file(tied_policy_path: str, saved: Path) -> None:
    header = json.loads((saved / "learner.json").read_text())
    assert header["identity"]["num_ranks"] == 1
    assert header["files"].keys() == {"engine.pt", "random-00000.pt"}
    assert isinstance(learner_identity(make_config(), tied_policy_path), LearnerIdentity)


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=2, alpha=4.0)], ids=["weights", "adapters"])
def test_an_export_of_a_saved_learner_is_its_export_then(
    lora: LoraConfig, tied_policy_path: str, tmp_path: Path
) -> None:
    config = make_config(lora=lora)
    learner = make_learner(tied_policy_path, config)
    step(learner, config, 0)
    learner.save(tmp_path / "saved")
    learner.export(tmp_path / "live")
    export_checkpoint(tmp_path / "saved", tied_policy_path, tmp_path / "later")
    live, later = (load_file(tmp_path / name / "model.safetensors") for name in ("live", "later"))
    assert differing(live, later) == []
    assert differing(live, load_file(Path(tied_policy_path) / "model.safetensors")) != []
    assert {path.name for path in (tmp_path / "live").iterdir()} == {
        path.name for path in (tmp_path / "later").iterdir()
    }


def test_an_export_under_another_starting_policy_is_refused(saved: Path, tmp_path: Path) -> None:
    other = write_tiny_policy(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="the starting policy must be that of the run"):
        export_checkpoint(saved, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_without_room_says_which_file(tied_policy_path: str, saved: Path, tmp_path: Path) -> None:
    learner, rule = make_learner(tied_policy_path), r"exported in full, failed with: .*large.* \(.*model\.safetensors\)"
    with files_up_to(100_000), pytest.raises(CheckpointError, match=rule):
        export_checkpoint(saved, tied_policy_path, tmp_path / "out")
    with files_up_to(100_000), pytest.raises(CheckpointError, match=rule):
        learner.export(tmp_path / "out")
