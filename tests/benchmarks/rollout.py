"""What the way from request to group costs, and what entropy costs: python -m tests.benchmarks.rollout [--json]

`rollout_over_bare`: tokens per second of a RolloutWorker, which gives texts, log-probs, entropies and checked records,
over those of vLLM's AsyncLLM asked for texts and log-probs. One process each, the same problems and seeds in turn.
`entropy_overhead_*`: seconds with entropies over seconds without, less 1; one engine whose sampler is switched.
Wall seconds, the median over pairs of rounds; `_cpu` ratios are of CPU seconds, which other users of the machine change
less. `entropy_over_log_softmax_*`: CPU seconds for log-probs and entropies over those of log-softmax and gather, the
largest over several numbers of rows.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from rollout.config import EngineConfig
from rollout.engines import EngineSettings
from rollout.softmax_rows import softmax_rows
from rollout.vllm_env import worker_environment
from shaping.records import Sampling
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import time_in_turn

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "deploy" / "quickstart" / "policy"
KV_CACHE_BYTES = 2**28
MAX_PROMPT_TOKENS = 64
MAX_RESPONSE_TOKENS = 128
NUM_GROUPS, GROUP_SIZE = 16, 8
NUM_ROUNDS = 15
SIZES = {"1k": (1024, 192, 4), "152k": (151_936, 128, 2)}
"""Vocabulary, hidden size and layers of random policies: 1.8 and 20 million parameters."""

NUM_WIDE_GROUPS, WIDE_RESPONSE_TOKENS = 8, 32
ROW_COUNTS = (8, 64, 256)
KERNEL_ROUNDS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What each side is asked for in each round: `num_groups` requests at once.

    Args:
        sides: "bare" and "worker", or "entropies" and "none".
    """

    model_path: str
    sides: tuple[str, ...]
    num_rounds: int = NUM_ROUNDS
    num_groups: int = NUM_GROUPS
    group_size: int = GROUP_SIZE
    max_response_tokens: int = MAX_RESPONSE_TOKENS

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_response_tokens=self.max_response_tokens)

    @property
    def settings(self) -> EngineSettings:
        return EngineSettings(
            config=EngineConfig(
                dtype="float32",
                max_num_seqs=self.num_groups * self.group_size,
                kv_cache_bytes=KV_CACHE_BYTES,
                enforce_eager=True,
            ),
            model_path=self.model_path,
            max_model_tokens=MAX_PROMPT_TOKENS + self.max_response_tokens,
            seed=0,
            sampling=self.sampling,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One side's answers to one round; CPU time is that of its process and all engines."""

    wall_seconds: float
    cpu_seconds: float
    num_tokens: int


def contest(load: Load) -> dict[str, list[Turn]]:
    """Let the sides take turns, in a process with a rollout worker's environment.

    Raises:
        subprocess.CalledProcessError: an engine did not start; what it printed is on standard error.
    """
    environment = worker_environment(load.settings.config) | {"PYTHONPATH": str(ROOT)}
    if shutil.which("g++"):
        # As vLLM comes: it compiles a part of its stock sampler, which is several times slower uncompiled.
        environment["TORCHDYNAMO_DISABLE"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "turns.json"
        words = [sys.executable, "-m", "tests.benchmarks.rollout_engines", json.dumps(asdict(load)), str(answer)]
        # To standard error: vLLM prints to standard output, which is the report's.
        subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, stdout=sys.stderr, check=True)
        turns = json.loads(answer.read_text())
    return {side: [Turn(**each) for each in turns[side]] for side in load.sides}


def seconds_ratio(ours: list[Turn], theirs: list[Turn], *, cpu: bool = False) -> float:
    """Median over pairs of rounds of seconds per token, ours over theirs."""

    def per_token(turn: Turn) -> float:
        return (turn.cpu_seconds if cpu else turn.wall_seconds) / turn.num_tokens

    return median(per_token(a) / per_token(b) for a, b in zip(ours, theirs, strict=True))


def save_random_policy(path: Path, *, vocab_size: int, hidden_size: int, num_layers: int) -> str:
    """A random Qwen2 that never ends by itself, with the quickstart's tokenizer."""
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        dtype="float32",
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(POLICY / name, path)
    return str(path)


def measure_worker(*, num_rounds: int) -> tuple[dict[str, float], list[Row]]:
    turns = contest(Load(model_path=str(POLICY), sides=("bare", "worker"), num_rounds=num_rounds))
    bare, worker = turns["bare"], turns["worker"]
    figures = {
        "rollout_over_bare": 1 / seconds_ratio(worker, bare),
        "rollout_over_bare_cpu": 1 / seconds_ratio(worker, bare, cpu=True),
        "rollout_tokens_per_second": median(each.num_tokens / each.wall_seconds for each in worker),
    }
    return figures, to_rows(turns)


def measure_entropies(size: str, *, num_rounds: int) -> tuple[dict[str, float], list[Row]]:
    """Of whole generation, with a vocabulary of `size`."""
    vocab_size, hidden_size, num_layers = SIZES[size]
    wide = {"num_groups": NUM_WIDE_GROUPS, "max_response_tokens": WIDE_RESPONSE_TOKENS} if size == "152k" else {}
    with tempfile.TemporaryDirectory() as folder:
        path = save_random_policy(Path(folder), vocab_size=vocab_size, hidden_size=hidden_size, num_layers=num_layers)
        turns = contest(Load(model_path=path, sides=("none", "entropies"), num_rounds=num_rounds, **wide))
    figures = {
        f"entropy_overhead_{size}": seconds_ratio(turns["entropies"], turns["none"]) - 1,
        f"entropy_overhead_{size}_cpu": seconds_ratio(turns["entropies"], turns["none"], cpu=True) - 1,
    }
    return figures, to_rows(turns)


def measure_kernel(*, vocab_size: int, row_counts: Sequence[int], num_rounds: int) -> list[Row]:
    """What our sampler computes from logits at temperature 1, beside the log-probs of the stock one; one thread."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for num_rows in row_counts:
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(num_rows, vocab_size, generator=generator)
        tokens = torch.randint(vocab_size, (num_rows, 1), generator=generator)
        calls = {"ours": partial(our_numbers, logits, tokens), "stock": partial(stock_numbers, logits, tokens)}
        timings = time_in_turn(calls, num_rounds=num_rounds)
        logprobs, entropies = our_numbers(logits, tokens)
        exact = logits.double().log_softmax(dim=-1)
        rows.append(
            {
                "rows": num_rows,
                "ours_us_per_row": timings["ours"].seconds / num_rows * 1e6,
                "stock_us_per_row": timings["stock"].seconds / num_rows * 1e6,
                "over_log_softmax": timings["ours"].over(timings["stock"]),
                "logprob_error": float((logprobs - exact.gather(-1, tokens)[:, 0]).abs().max()),
                "entropy_error": float((entropies + (exact.exp() * exact).sum(-1)).abs().max()),
            }
        )
    return rows


def our_numbers(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and raw entropies, as `rollout.vllm_sampler` finds them: in one pass each."""
    entropies = softmax_rows(logits)[1]
    return logits.gather(-1, tokens)[:, 0] - softmax_rows(logits)[0], entropies


def stock_numbers(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The least that a sampler without entropies computes for log-probs."""
    return logits.log_softmax(dim=-1, dtype=torch.float32).gather(-1, tokens)


def to_rows(turns: dict[str, list[Turn]]) -> list[Row]:
    return [{"side": side, "round": index, **asdict(turn)} for side in turns for index, turn in enumerate(turns[side])]


def measure(*, num_rounds: int) -> Report:
    parts = {
        "worker": measure_worker(num_rounds=num_rounds),
        "entropies_1k": measure_entropies("1k", num_rounds=num_rounds),
        "entropies_152k": measure_entropies("152k", num_rounds=num_rounds),
    }
    figures = {name: value for part, _ in parts.values() for name, value in part.items()}
    rows = {name: table for name, (_, table) in parts.items()}
    kernel = measure_kernel(vocab_size=SIZES["152k"][0], row_counts=ROW_COUNTS, num_rounds=KERNEL_ROUNDS)
    figures |= {
        "entropy_over_log_softmax_152k": max(float(row["over_log_softmax"]) for row in kernel),
        "entropy_error_nats": max(float(row["entropy_error"]) for row in kernel),
        "logprob_error_nats": max(float(row["logprob_error"]) for row in kernel),
    }
    return Report(benchmark="rollout", core=None, figures=figures, rows=rows | {"kernel_152k": kernel})


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS, help="pairs of every comparison between engines")
    options = parser.parse_args()
    # DeepSpeed, which transformers imports, logs to standard output, which is the report's.
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(num_rounds=options.rounds)
    write_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
