"""Log-probs and entropies in tiles beside whole [T, V] tensors, and what packing leaves unused:
python -m tests.benchmarks.learner [--json]

`chunked_*_ratio` are over naive: log-softmax, gather and entropy of whole float32 logits under autograd. Forward and
backward pass of both, in turn on one core; seconds are CPU seconds, a ratio is the median over the pairs. Memory is the
highest resident size during a call, less what the process held before and less outputs and gradients, which both have.
`chunked_value_error` is the largest difference from float64 over the largest exact number, `chunked_gradient_error` the
norm of the difference over the norm of the exact gradient. `packing_waste_share` is the largest share, over the packing
cases, of the ranks' time that goes into waiting for one another, were time as the tokens of a micro-batch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from learner.batch_plan import BatchPlan, SampleSize, micro_batch_cost, plan_batch
from learner.logprobs import token_logprobs_and_entropies
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import measure_memory, time_in_turn, use_one_core

Tensors = tuple[torch.Tensor, ...]
Scores = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Tensors]

CHUNK_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Sizes of one comparison; `entropies`: whether they have a gradient too."""

    vocab_size: int
    num_tokens: int
    hidden_size: int
    entropies: bool = True
    num_rounds: int = 5


CASES = {
    "": Case(vocab_size=151_936, num_tokens=4096, hidden_size=128, num_rounds=3),
    "_32k": Case(vocab_size=32_000, num_tokens=4096, hidden_size=128),
    "_32k_wide": Case(vocab_size=32_000, num_tokens=1024, hidden_size=1024, entropies=False),
}
"""By the end of the figure's name. Matrix products, of which tiles need a fourth, weigh most in the last one."""
EXACT = Case(vocab_size=151_936, num_tokens=128, hidden_size=128)

RANKS = (1, 2, 8, 64)
MICRO_BATCH_TOKENS = (16_384, 32_768)
NUM_GROUPS, GROUP_SIZE = 512, 8
NUM_PROMPT_TOKENS, MAX_TOKENS = 200, 8192


def tiled(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return token_logprobs_and_entropies(
        hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=CHUNK_TOKENS
    )


def naive(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Tensors:
    log_p = torch.log_softmax(hidden @ weight.T, dim=1)
    return log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(1)


def make_call(scores: Scores, case: Case, dtype: torch.dtype = torch.float32) -> Callable[[], Tensors]:
    """A forward and backward pass that returns log-probs, entropies and both gradients; logits of about unit size."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(case.num_tokens, case.hidden_size, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(case.vocab_size, case.hidden_size, generator=generator).to(dtype)
    weight = weight.div_(case.hidden_size**0.5).requires_grad_()
    targets = torch.randint(case.vocab_size, (case.num_tokens,), generator=generator)
    upstream = torch.randn(2, case.num_tokens, generator=generator).to(dtype)

    def call() -> Tensors:
        logprobs, entropies = scores(hidden, weight, targets)
        loss = logprobs @ upstream[0] + (entropies @ upstream[1] if case.entropies else 0.0)
        return (logprobs.detach(), entropies.detach(), *torch.autograd.grad(loss, (hidden, weight)))

    return call


def compare(name: str, case: Case) -> Row:
    """Memory and seconds of both."""
    calls = {"chunked": make_call(tiled, case), "naive": make_call(naive, case)}
    kept_mb = sum(each.numel() * each.element_size() for each in calls["chunked"]()) / 1e6
    memory = {key: measure_memory(call).extra_mb - kept_mb for key, call in calls.items()}
    timings = time_in_turn(calls, num_rounds=case.num_rounds, num_warm_ups=0)
    return {
        "case": f"v{case.vocab_size}{name.removeprefix('_32k')}",
        "tokens": case.num_tokens,
        "hidden": case.hidden_size,
        "chunked_mb": memory["chunked"],
        "naive_mb": memory["naive"],
        "memory_ratio": memory["chunked"] / memory["naive"],
        "chunked_seconds": timings["chunked"].seconds,
        "naive_seconds": timings["naive"].seconds,
        "time_ratio": timings["chunked"].over(timings["naive"]),
        "cpu_share": min(each.cpu_share for each in timings.values()),
    }


def measure_errors(case: Case) -> list[Row]:
    """How far each is from float64."""
    exact = make_call(naive, case, torch.float64)()
    rows: list[Row] = []
    for name, scores in (("chunked", tiled), ("naive", naive)):
        found = make_call(scores, case)()
        pairs = list(zip(found, exact, strict=True))
        values = [float((one - other).abs().max() / other.abs().max()) for one, other in pairs[:2]]
        gradients = [float((one - other).norm() / other.norm()) for one, other in pairs[2:]]
        rows.append({"of": name, "value_error": max(values), "gradient_error": max(gradients)})
    return rows


def make_sizes(num_groups: int) -> list[SampleSize]:
    """Responses of a long-tailed length: lognormal around 900 tokens, cut off at the end of the context."""
    random = np.random.default_rng(0)
    lengths = random.lognormal(np.log(900), 1.0, (num_groups, GROUP_SIZE)).astype(int)
    lengths = lengths.clip(1, MAX_TOKENS - NUM_PROMPT_TOKENS)
    return [
        SampleSize(
            group_index=group,
            sample_index=index,
            num_tokens=int(lengths[group, index]) + NUM_PROMPT_TOKENS,
            num_valid_tokens=int(lengths[group, index]),
        )
        for group in range(num_groups)
        for index in range(GROUP_SIZE)
    ]


def waste_of(plan: BatchPlan) -> float:
    """1 - tokens / (ranks x the longest micro-batch of each row, summed)."""
    rows = [
        [micro_batch_cost(each, "packed") for each in row]
        for mini_batch in plan.mini_batches
        for row in zip(*mini_batch.micro_batches, strict=True)
    ]
    return 1 - sum(map(sum, rows)) / sum(len(row) * max(row) for row in rows)


def measure_packing(num_groups: int) -> list[Row]:
    sizes = make_sizes(num_groups)
    rows: list[Row] = []
    for num_ranks in RANKS:
        for limit in MICRO_BATCH_TOKENS:
            began = time.process_time()
            plan = plan_batch(
                sizes,
                num_ranks=num_ranks,
                mini_batch_groups=0,
                num_epochs=1,
                micro_batch_tokens=limit,
                layout="packed",
                seed=0,
            )
            seconds = time.process_time() - began
            num_micro_batches = len(plan.mini_batches[0].micro_batches[0])
            fewest = -(-sum(size.num_tokens for size in sizes) // (num_ranks * limit))
            rows.append(
                {
                    "ranks": num_ranks,
                    "micro_batch_tokens": limit,
                    "micro_batches": num_micro_batches,
                    "fewest_possible": fewest,
                    "waste_share": waste_of(plan),
                    "plan_ms": 1e3 * seconds,
                }
            )
    return rows


def measure(*, core: int | None) -> Report:
    scores = {name: compare(name, case) for name, case in CASES.items()}
    errors, packing = measure_errors(EXACT), measure_packing(NUM_GROUPS)
    figures = {
        f"chunked_{quantity}{name}": float(row[quantity])
        for name, row in scores.items()
        for quantity in ("memory_ratio", "time_ratio")
    }
    figures |= {f"chunked_{quantity}": float(errors[0][quantity]) for quantity in ("value_error", "gradient_error")}
    figures["packing_waste_share"] = max(float(row["waste_share"]) for row in packing)
    rows = {"scores": list(scores.values()), "errors": errors, "packing": packing}
    return Report(benchmark="learner", core=core, figures=figures, rows=rows)


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    write_report(measure(core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
