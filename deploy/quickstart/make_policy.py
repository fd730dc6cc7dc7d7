"""Makes the quickstart policy: its tokenizer, its Qwen2 model and a short supervised warm-up.

Flow: worked solutions of rollout/arithmetic.py, with mistakes mixed in -> a Hugging Face directory, which vLLM
and the learner load like any other. It knows nothing of RL. From the repository root:

    python -m deploy.quickstart.make_policy --out deploy/quickstart/policy

The mistakes are deliberate. The policy learns from correct solutions first and from sloppy ones at the end, so it is
able to do more than it samples: RL has something to find, and finds it within minutes on two cores.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rollout.arithmetic import ArithmeticProblem, Split, make_problem, work_out

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Settings of the supervised warm-up; the defaults make the shipped policy."""

    seed: int = 0
    num_steps: int = 1700
    batch_size: int = 16
    learning_rate: float = 1.2e-3
    num_lr_warmup_steps: int = 50
    mistake_rate: float = 0.33
    """Chance of a mistake per operation of a worked solution, once mistakes occur."""
    correct_share: float = 0.85
    """The part of the steps, from the first, whose solutions hold no mistake: skill comes first, slips after."""
    num_threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAccuracy:
    """What the policy samples at temperature 1 on held-out problems."""

    accuracy: float
    boxed_share: float
    mean_response_length_tokens: float


def train_tokenizer(*, vocab_size: int = 384, num_problems: int = 4000) -> PreTrainedTokenizerFast:
    """Byte-level BPE on train problems and their solutions; every digit is a token of its own.

    Args:
        vocab_size: special tokens, 256 bytes, and merges.
        num_problems: size of the text it is trained on.
    Returns:
        The tokenizer with a ChatML template; `<|im_end|>` ends a response, `<|endoftext|>` pads.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    problems = (make_problem(i) for i in range(num_problems))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"user\n{p.problem}\nassistant\n{p.solution}" for p in problems), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=END_OF_TEXT, model_max_length=512
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> Qwen2ForCausalLM:
    """The untrained policy: Qwen2, 0.8 million parameters, float32, tied embeddings, head size 32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=384,
        max_position_embeddings=512,
        # 0.02, the library default, learns the copying of numbers several times slower at this width.
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def prompt_ids(tokenizer: PreTrainedTokenizerFast, problem: ArithmeticProblem) -> list[int]:
    """Token ids of the problem as a user turn, up to where the response starts."""
    messages = [{"role": "user", "content": problem.problem}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return [int(i) for i in ids]


def encode_solution(
    tokenizer: PreTrainedTokenizerFast, problem: ArithmeticProblem, steps: tuple[str, ...]
) -> tuple[list[int], int]:
    """Token ids of a prompt followed by a worked solution and the end of the turn, and how many are the prompt's."""
    prompt = prompt_ids(tokenizer, problem)
    return prompt + tokenizer.encode("\n".join(steps) + TURN_END), len(prompt)


def collate(rows: list[tuple[list[int], int]], *, pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows from encode_solution as one batch.

    Returns:
        Token ids [batch, length] int64, padded on the right, and labels of the same shape: the token itself where it
        belongs to the response, IGNORED elsewhere.
    """
    length = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), length), pad_token_id, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, num_prompt_tokens) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, num_prompt_tokens : len(tokens)] = ids[row, num_prompt_tokens : len(tokens)]
    return ids, labels


def warm_up_batches(
    tokenizer: PreTrainedTokenizerFast, *, settings: WarmUp
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches, as collate makes them, of worked solutions of train problems; endless, each problem drawn once."""
    rng = random.Random(f"warm-up/{settings.seed}")
    first_mistake = int(settings.correct_share * settings.num_steps) * settings.batch_size
    index = 0
    while True:
        # Problems of like length share a batch, so that few positions are padding; the order is then shuffled.
        pool: list[tuple[list[int], int]] = []
        for _ in range(16 * settings.batch_size):
            problem = make_problem(index, seed=settings.seed)
            mistake_rate = settings.mistake_rate if index >= first_mistake else 0.0
            steps = work_out(problem.expression, rng=rng, mistake_rate=mistake_rate)
            pool.append(encode_solution(tokenizer, problem, steps))
            index += 1
        pool.sort(key=lambda row: len(row[0]))
        batches = [pool[i : i + settings.batch_size] for i in range(0, len(pool), settings.batch_size)]
        rng.shuffle(batches)
        for batch in batches:
            yield collate(batch, pad_token_id=int(tokenizer.pad_token_id))


def response_loss(model: Qwen2ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-prob, in nats, of the response tokens; ids and labels from collate."""
    # Padding is on the right and attention is causal, so no attention mask is needed.
    logits = model(input_ids=ids, use_cache=False).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def warm_up(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, settings: WarmUp) -> float:
    """Trains the model in place with AdamW and a linear rise and cosine fall of the learning rate.

    Returns:
        Mean loss over the last 50 steps, in nats per response token.
    """
    torch.set_num_threads(settings.num_threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=settings.num_lr_warmup_steps)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, max(1, settings.num_steps - settings.num_lr_warmup_steps)
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [settings.num_lr_warmup_steps])
    batches = warm_up_batches(tokenizer, settings=settings)
    losses: list[float] = []
    model.train()
    for step in range(1, settings.num_steps + 1):
        loss = response_loss(model, *next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 100 == 0:
            sys.stdout.write(f"step {step}: loss {sum(losses[-50:]) / 50:.4f} nats/token\n")
            sys.stdout.flush()
    return sum(losses[-50:]) / len(losses[-50:])


def sampled_accuracy(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, num_problems: int = 400, seed: int = 0
) -> SampledAccuracy:
    """Share of held-out problems answered rightly, one sampled response each at temperature 1, whole vocabulary."""
    torch.manual_seed(seed)
    model.eval()
    problems = [make_problem(i, split=Split.HELD_OUT) for i in range(num_problems)]
    prompts = [prompt_ids(tokenizer, problem) for problem in problems]
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        # Spelled out: Hugging Face's default is top_k 50, which is not the distribution that RL samples from.
        output = model.generate(
            **batch, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=128, use_cache=True
        )
    responses = output[:, batch["input_ids"].shape[1] :]
    lengths = (responses != tokenizer.pad_token_id).sum(1).float()
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    return SampledAccuracy(
        accuracy=sum(f"\\boxed{{{p.answer}}}" in text for p, text in zip(problems, texts, strict=True)) / num_problems,
        boxed_share=sum("\\boxed{" in text for text in texts) / num_problems,
        mean_response_length_tokens=float(lengths.mean()),
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line: makes the policy and reports its loss and accuracy. None reads the process's arguments."""
    defaults = WarmUp()
    parser = argparse.ArgumentParser(description="Make the warm-started policy of the quickstart task.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write, Hugging Face layout")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.num_steps)
    parser.add_argument("--mistake-rate", type=float, default=defaults.mistake_rate)
    parser.add_argument("--threads", type=int, default=defaults.num_threads)
    options = parser.parse_args(arguments)
    settings = WarmUp(
        seed=options.seed,
        num_steps=options.steps,
        mistake_rate=options.mistake_rate,
        num_threads=options.threads,
    )
    tokenizer = train_tokenizer()
    model = build_model(tokenizer, seed=settings.seed)
    loss = warm_up(model, tokenizer, settings=settings)
    result = sampled_accuracy(model, tokenizer)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    sys.stdout.write(
        f"loss {loss:.4f} nats/token, held-out accuracy {result.accuracy:.3f}, boxed {result.boxed_share:.3f}, "
        f"{result.mean_response_length_tokens:.1f} tokens/response, "
        f"{sum(p.numel() for p in model.parameters())} parameters -> {options.out}\n"
    )


if __name__ == "__main__":
    main()
