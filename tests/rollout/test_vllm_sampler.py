"""vLLM's samplers with entropies, without an engine. V2 needs CUDA: a stand-in takes the place of its stock half."""

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.stack,
    # vLLM and what it imports use names that torch and Python have deprecated.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

LOGITS = torch.randn(6, 300, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(scope="module")
def vllm_sampler() -> ModuleType:
    """Imported late: vLLM takes seconds, and only these tests need it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
        return importlib.import_module("rollout.vllm_sampler")


def make_metadata(*, temperature: float, top_k: int | None, top_p: float | None) -> Any:
    rows = LOGITS.shape[0]
    module = importlib.import_module("vllm.v1.sample.metadata")
    processors = importlib.import_module("vllm.v1.sample.logits_processor").LogitsProcessors()
    return module.SamplingMetadata(
        temperature=torch.full((rows,), temperature),
        all_greedy=False,
        all_random=True,
        top_p=None if top_p is None else torch.full((rows,), top_p),
        top_k=None if top_k is None else torch.full((rows,), top_k, dtype=torch.int32),
        generators={row: torch.Generator().manual_seed(row) for row in range(rows)},
        max_num_logprobs=1,
        no_penalties=True,
        prompt_token_ids=None,
        frequency_penalties=torch.zeros(rows),
        presence_penalties=torch.zeros(rows),
        repetition_penalties=torch.ones(rows),
        output_token_ids=[[] for _ in range(rows)],
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=processors,
    )


def categorical(logits: torch.Tensor) -> torch.distributions.Categorical:
    return torch.distributions.Categorical(logits=logits.double())


def truncate(logits: torch.Tensor, *, top_k: int) -> torch.Tensor:
    kept = logits.topk(top_k, dim=-1).indices
    return torch.full_like(logits, -1e9).scatter(-1, kept, logits.gather(-1, kept))


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("top_k", [20, None])
def test_the_v1_sampler_reports_what_it_samples_from(
    vllm_sampler: ModuleType, raw: bool, temperature: float, top_k: int | None
) -> None:
    sampler = vllm_sampler.Sampler("processed_logprobs")
    assert vllm_sampler.missing_names(sampler) == []
    assert vllm_sampler.add_entropies(sampler, raw=raw) == "v1"
    # Neither half of the stock sampler makes a table of log-probs.
    assert sampler.logprobs_mode == sampler.topk_topp_sampler.logprobs_mode == "processed_logits"
    metadata = make_metadata(temperature=temperature, top_k=top_k, top_p=None)
    output = sampler(LOGITS.clone(), metadata)
    tokens = output.sampled_token_ids[:, 0].long()
    processed = categorical(truncate(LOGITS / temperature, top_k=20) if top_k else LOGITS / temperature)
    source = categorical(LOGITS) if raw else processed
    numbers = output.logprobs_tensors.logprobs.double()
    assert numbers.shape == (6, 2)
    torch.testing.assert_close(numbers[:, 0], processed.log_prob(tokens), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers[:, 1], source.entropy(), atol=1e-5, rtol=0)
    assert output.logprobs_tensors.logprob_token_ids[:, 0].tolist() == tokens.tolist()


def test_the_v1_sampler_samples_as_the_stock_one_does(vllm_sampler: ModuleType) -> None:
    stock, ours = vllm_sampler.Sampler("processed_logprobs"), vllm_sampler.Sampler("processed_logprobs")
    vllm_sampler.add_entropies(ours, raw=True)
    options = {"temperature": 0.7, "top_k": 20, "top_p": 0.95}
    tokens = [each(LOGITS.clone(), make_metadata(**options)).sampled_token_ids for each in (stock, ours)]
    assert torch.equal(*tokens)


class StandInV2:
    """What EntropyColumnV2 builds on: `sample` may mask the logits in place, the call scores what it returns."""

    def __call__(self, logits: torch.Tensor, input_batch: Any) -> Any:
        sampled, processed = self.sample(logits, return_logprobs=True)
        top = processed.log_softmax(-1).topk(1, dim=-1)
        chosen = processed.log_softmax(-1).gather(-1, sampled[:, None])
        tensors = input_batch.tensors_type(
            logprob_token_ids=torch.cat([sampled[:, None], top.indices], dim=1),
            logprobs=torch.cat([chosen, top.values], dim=1),
            selected_token_ranks=torch.zeros(len(sampled), dtype=torch.int64),
        )
        return SimpleNamespace(sampled_token_ids=sampled[:, None], logprobs_tensors=tensors)

    def sample(self, logits: torch.Tensor, *, return_logprobs: bool) -> tuple[torch.Tensor, torch.Tensor]:
        del return_logprobs
        processed = logits.copy_(truncate(logits / 0.7, top_k=20))
        return processed.argsort(dim=-1, descending=True)[:, 3], processed


@pytest.mark.parametrize("raw", [True, False])
def test_the_v2_sampler_replaces_the_second_column_by_the_entropy(vllm_sampler: ModuleType, raw: bool) -> None:
    sampler = type("Under", (vllm_sampler.EntropyColumnV2, StandInV2), {})()
    sampler.reports_raw_entropies = raw
    batch = SimpleNamespace(tensors_type=vllm_sampler.LogprobsTensors)
    output = sampler(LOGITS.clone(), batch)
    processed = categorical(truncate(LOGITS / 0.7, top_k=20))
    source = categorical(LOGITS) if raw else processed
    numbers = output.logprobs_tensors.logprobs.double()
    tokens = output.sampled_token_ids[:, 0]
    torch.testing.assert_close(numbers[:, 0], processed.log_prob(tokens), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers[:, 1], source.entropy(), atol=1e-5, rtol=0)
    assert output.logprobs_tensors.logprob_token_ids[:, 0].tolist() == tokens.tolist()


def test_the_names_that_the_v2_sampler_builds_on_exist(vllm_sampler: ModuleType) -> None:
    sampler = object.__new__(vllm_sampler.SamplerV2)
    sampler.logprobs_mode = "processed_logprobs"
    assert vllm_sampler.missing_names(sampler) == []
    assert vllm_sampler.add_entropies(sampler, raw=True) == "v2"
    assert isinstance(sampler, vllm_sampler.EntropySamplerV2)


def test_another_sampler_is_refused(vllm_sampler: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"must be vLLM's own, found builtins\.object"):
        vllm_sampler.add_entropies(object(), raw=True)
    once = vllm_sampler.Sampler("processed_logprobs")
    vllm_sampler.add_entropies(once, raw=True)
    with pytest.raises(TypeError, match="EntropySampler"):
        vllm_sampler.add_entropies(once, raw=True)


def test_missing_names_are_named(vllm_sampler: ModuleType) -> None:
    assert vllm_sampler.missing_names(SimpleNamespace(logprobs_mode="x")) == ["sample"]
