"""Log-probs and entropies in chunks, beside the [T, V] tensors they avoid: python -m tests.benchmarks.scoring [--json]

Chunked against naive in turn on one core, CPU seconds; `_over_naive` is the median of the pairwise ratios.
"""

import torch

from learner.logprobs import token_logprobs_and_entropies
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import time_in_turn, use_one_core

HIDDEN_SIZE = 64
CHUNK_TOKENS = 128
CASES = ((1024, 1024, True), (32_000, 512, False), (32_000, 512, True))
"""Vocabulary size, number of tokens, with gradient."""
ROUNDS = 7


def measure_case(vocab_size: int, num_tokens: int, *, with_gradient: bool, num_rounds: int) -> Row:
    """Seconds of both, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, HIDDEN_SIZE, generator=generator, requires_grad=with_gradient)
    weight = torch.randn(vocab_size, HIDDEN_SIZE, generator=generator, requires_grad=with_gradient)
    targets = torch.randint(vocab_size, (num_tokens,), generator=generator)

    def chunked() -> None:
        logprobs, entropies = token_logprobs_and_entropies(
            hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=CHUNK_TOKENS
        )
        if with_gradient:
            (logprobs.sum() + entropies.sum()).backward()

    def naive() -> None:
        log_p = torch.log_softmax(hidden @ weight.T, dim=1)
        entropies = -(log_p.exp() * log_p).sum(1)
        if with_gradient:
            (log_p.gather(1, targets[:, None]).sum() + entropies.sum()).backward()

    timings = time_in_turn({"chunked": chunked, "naive": naive}, num_rounds=num_rounds)
    return {
        "case": f"v{vocab_size}_{'forward_backward' if with_gradient else 'forward'}",
        "tokens": num_tokens,
        "chunked_seconds": timings["chunked"].seconds,
        "naive_seconds": timings["naive"].seconds,
        "over_naive": timings["chunked"].over(timings["naive"]),
    }


def measure(*, core: int | None) -> Report:
    rows = [measure_case(v, n, with_gradient=gradient, num_rounds=ROUNDS) for v, n, gradient in CASES]
    figures = {f"{row['case']}_{name}": float(row[name]) for row in rows for name in ("chunked_seconds", "over_naive")}
    return Report(benchmark="scoring", core=core, figures=figures, rows={"cases": rows})


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    write_report(measure(core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
