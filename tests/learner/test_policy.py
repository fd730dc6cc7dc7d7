import json
from pathlib import Path

import pytest
import torch
from learner_builders import make_batch, make_sample
from transformers import AutoModelForCausalLM

from learner.collate import Microbatch, collate
from learner.policy import Policy, load_policy
from shaping.errors import RecipeError


def load(path: str, *, gradient_checkpointing: bool = False) -> Policy:
    return load_policy(path, dtype=torch.float32, chunk_tokens=5, gradient_checkpointing=gradient_checkpointing)


def score(policy: Policy, batch: Microbatch, temperature: float = 1.0) -> torch.Tensor:
    return policy(batch, temperature=temperature, entropy_temperature=1.0, differentiable_entropies=True)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("tied", [True, False])
def test_scores_equal_a_plain_transformers_forward_per_sample(
    layout: str, tied: bool, tied_policy_path: str, untied_policy_path: str
) -> None:
    path = tied_policy_path if tied else untied_policy_path
    samples = make_batch(5, num_hint=2)
    scores = score(load(path), collate(samples, layout), temperature=0.8)
    model = AutoModelForCausalLM.from_pretrained(path)
    logprobs, entropies = [], []
    for sample in samples:
        ids = torch.from_numpy(sample.token_ids).long()
        logits = model(ids[None]).logits[0, :-1].double()
        rows = torch.arange(3, len(ids) - 1)  # prompts have 4 tokens: position 3 scores the first hint token
        logprobs.append((logits / 0.8).log_softmax(-1)[rows, ids[rows + 1]])
        entropies.append(torch.distributions.Categorical(logits=logits[rows]).entropy())
    torch.testing.assert_close(scores[0].double(), torch.cat(logprobs), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[1].double(), torch.cat(entropies), atol=1e-5, rtol=0)


def test_a_sample_scores_the_same_whatever_lies_beside_it(tied_policy_path: str) -> None:
    policy = load(tied_policy_path)
    sample, *others = make_batch(4)
    alone = score(policy, collate([sample], "packed"))
    for layout in ("padded", "packed"):
        among = score(policy, collate([*others, sample], layout))
        torch.testing.assert_close(among[:, -alone.shape[1] :], alone, atol=1e-5, rtol=0)


def test_padded_and_packed_give_the_same_gradient(tied_policy_path: str) -> None:
    gradients = []
    for layout, checkpointing in (("padded", False), ("packed", False), ("packed", True)):
        policy = load(tied_policy_path, gradient_checkpointing=checkpointing)
        score(policy, collate(make_batch(5), layout)).sum().backward()
        gradients.append({name: each.grad for name, each in policy.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-5, rtol=1e-5)


def test_parameter_names_are_those_of_the_checkpoint(tied_policy_path: str, untied_policy_path: str) -> None:
    for path in (tied_policy_path, untied_policy_path):
        names = [name for name, _ in AutoModelForCausalLM.from_pretrained(path).named_parameters()]
        assert [name for name, _ in load(path).named_parameters()] == names
        assert ("lm_head.weight" in names) == (path == untied_policy_path)


def test_dropout_of_the_checkpoint_is_off(tied_policy_path: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(tied_policy_path, attention_dropout=0.9).save_pretrained(tmp_path)
    batch = collate([make_sample()], "packed")
    policy = load(str(tmp_path), gradient_checkpointing=True)
    assert policy.training
    assert torch.equal(score(policy, batch), score(policy, batch))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"final_logit_softcapping": 30.0}, "changes its logits"),
        (
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None},
            "full attention",
        ),
    ],
)
def test_a_model_that_the_head_cannot_reproduce_is_refused(
    setting: dict, message: str, tied_policy_path: str, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_pretrained(tied_policy_path).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | setting))
    with pytest.raises(RecipeError, match=message):
        load(str(tmp_path))


def test_a_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must be a readable causal LM checkpoint") as found:
        load(str(tmp_path / "nowhere"))
    assert "\n" not in str(found.value)
