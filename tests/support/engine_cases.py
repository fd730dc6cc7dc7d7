"""What engines are tested against: a tiny policy, the sending half of the weight channel, a plain forward pass."""

import asyncio
import socket
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroupGloo, TCPStore
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rollout.config import EngineConfig
from rollout.engine import Engine, EngineInfo
from rollout.engines import EngineSettings
from rollout.scripted_engine import Script, ScriptedEngine
from shaping.memory_channel import MemoryChannel
from shaping.records import Rollout, Sampling
from shaping.training import BucketLayout, WeightChannel, WeightLayout, WeightManifest

VOCAB_SIZE = 300
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the sum of one and two is three, so the answer is \\boxed{3}"] * 8, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tiny_policy(path: Path) -> str:
    """A random Qwen2 with tied embeddings; init std 0.2 keeps its distributions far from uniform and from one-hot."""
    tokenizer = make_tokenizer()
    config = Qwen2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=128,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


class Policy:
    """The reference: a transformers model whose weights tests change and send."""

    def __init__(self, path: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def copy(self) -> "Policy":
        return deepcopy(self)

    @torch.no_grad()
    def perturb(self, seed: int) -> None:
        """Move every weight a little; the tied head moves with the embedding."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))

    @torch.no_grad()
    def logits(self, prefix_ids: np.ndarray, response_ids: np.ndarray) -> torch.Tensor:
        """[T, V] float64 logits at each response token."""
        ids = torch.tensor(np.concatenate([prefix_ids, response_ids]).astype(np.int64))[None]
        return self.model(input_ids=ids, use_cache=False).logits[0, len(prefix_ids) - 1 : -1].double()

    def layout(self, num_buckets: int = 3) -> WeightLayout:
        named = [(name, tuple(each.shape)) for name, each in self.model.named_parameters()]
        size = -(-len(named) // num_buckets)
        chunks = [named[start : start + size] for start in range(0, len(named), size)]
        return WeightLayout(
            buckets=tuple(
                BucketLayout(
                    names=tuple(name for name, _ in chunk),
                    shapes=tuple(shape for _, shape in chunk),
                    dtype="float32",
                    num_bytes=sum(4 * int(np.prod(shape)) for _, shape in chunk),
                )
                for chunk in chunks
            )
        )

    def buckets(self, layout: WeightLayout) -> list[bytes]:
        values = dict(self.model.named_parameters())
        return [b"".join(values[name].detach().numpy().tobytes() for name in bucket.names) for bucket in layout.buckets]

    def manifest(self, policy_version: int) -> WeightManifest:
        layout = self.layout()
        checksums = tuple(xxhash.xxh3_64_hexdigest(each) for each in self.buckets(layout))
        return WeightManifest(policy_version=policy_version, layout=layout, checksums=checksums)


@dataclass
class Sender:
    """Rank 0 of a weight channel, for either backend: the protocol once more, with faults on demand."""

    channel: WeightChannel
    memory: MemoryChannel | None = None
    group: ProcessGroupGloo | None = None
    stores: list[object] = field(default_factory=list)

    @classmethod
    def opened(cls, memory: MemoryChannel | None) -> "Sender":
        """The sending end of a new channel to one receiver."""
        backend, port = ("memory", memory.open(1)) if memory else ("gloo", free_port())
        return cls(WeightChannel(backend=backend, address="127.0.0.1", port=port, world_size=2, first_rank=1), memory)

    def join(self) -> None:
        """Host the store and wait for the receivers; nothing to do in memory."""
        if self.memory is None:
            timeout = timedelta(seconds=30)
            store = TCPStore(
                self.channel.address,
                self.channel.port,
                self.channel.world_size,
                is_master=True,
                timeout=timeout,
                wait_for_workers=False,
            )
            options = ProcessGroupGloo._Options()
            options._timeout = timeout
            options._devices = [ProcessGroupGloo.create_device(hostname=self.channel.address)]
            prefixed = PrefixStore("lessrl_weights", store)
            self.stores = [store, prefixed]
            self.group = ProcessGroupGloo(prefixed, 0, self.channel.world_size, options)

    def send(
        self,
        buckets: list[bytes],
        *,
        policy_version: int,
        flipped_bucket: int | None = None,
        order: list[int] | None = None,
    ) -> None:
        """Send every bucket and the end; a receiver that leaves ends it.

        Args:
            flipped_bucket: one byte of it is changed on the way.
            order: of the buckets, which may lack one or have one twice.
        """
        count = len(buckets)
        for index in order or range(count):
            data = np.frombuffer(buckets[index], dtype=np.uint8).copy()
            if index == flipped_bucket:
                data[len(data) // 2] ^= 1
            if not self._sent(header_bytes(policy_version, index, count, len(data)), data):
                return
        self._sent(header_bytes(policy_version, count, count, 0))

    def leave(self) -> None:
        if self.memory is not None:
            self.memory.close(self.channel.port)
        self.group = None

    def _sent(self, *messages: np.ndarray) -> bool:
        options = BroadcastOptions()
        options.rootRank = 0
        try:
            for each in messages:
                if self.memory is not None:
                    self.memory.send(self.channel.port, each)
                else:
                    self.group.broadcast([torch.from_numpy(each)], options).wait()
        except RuntimeError:
            return False
        return True


def header_bytes(policy_version: int, bucket_index: int, num_buckets: int, num_bytes: int) -> np.ndarray:
    """What must come ahead of a bucket: 8 letters, then little-endian numbers of 8, 4, 4 and 8 bytes."""
    numbers = [
        each.to_bytes(size, "little")
        for each, size in ((policy_version, 8), (bucket_index, 4), (num_buckets, 4), (num_bytes, 8))
    ]
    return np.frombuffer(b"lessrl_w" + b"".join(numbers), dtype=np.uint8).copy()


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


class EngineCase:
    """One engine under test, the policy it should be serving, and the other end of its weight channel."""

    def __init__(self, kind: str, engine: Engine, policy: Policy, sender: Sender) -> None:
        self.kind = kind
        self.engine = engine
        self.policy = policy
        self.sender = sender
        self.info: EngineInfo | None = None
        self.first_version = engine.policy_version

    @property
    def has_model(self) -> bool:
        return self.kind != "scripted"

    async def start(self) -> None:
        self.info = await self.engine.start()
        await self.connect()

    async def connect(self) -> None:
        """Meet the sender in a new channel."""
        self.sender.leave()
        self.sender = Sender.opened(self.sender.memory)
        await asyncio.gather(asyncio.to_thread(self.sender.join), self.engine.connect_weights(self.sender.channel))

    async def stage(
        self, *, sent_version: int | None = None, flipped_bucket: int | None = None, order: list[int] | None = None
    ) -> WeightManifest:
        """Send the policy's weights and stage them; the manifest of the next version.

        Args:
            sent_version: what the headers say; None is the truth.
        """
        layout, version = self.policy.layout(), self.engine.policy_version + 1
        sending = asyncio.to_thread(
            self.sender.send,
            self.policy.buckets(layout),
            policy_version=version if sent_version is None else sent_version,
            flipped_bucket=flipped_bucket,
            order=order,
        )
        _, staged = await asyncio.gather(sending, self.engine.stage_weights(layout, version), return_exceptions=True)
        if isinstance(staged, BaseException):
            raise staged
        return self.policy.manifest(version)

    async def publish(self) -> int:
        """Stage and commit the policy's weights; the version now served."""
        manifest = await self.stage()
        await self.engine.commit_weights(manifest)
        return manifest.policy_version

    async def generate(
        self, prompt_ids: list[int], *, hint_ids: list[int] | None = None, n: int = 4, seed: int = 0, **sampling: Any
    ) -> tuple[Rollout, ...]:
        return await self.engine.generate(
            prompt_ids=np.array(prompt_ids, dtype=np.int32),
            hint_ids=np.array(hint_ids or [], dtype=np.int32),
            num_rollouts=n,
            sampling=Sampling(**{"max_response_tokens": 24, **sampling}),
            seed=seed,
        )

    def expected(
        self, prompt_ids: list[int], rollout: Rollout, sampling: Sampling, *, policy: Policy | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-prob and raw entropy [T] of a rollout's tokens, by one forward pass of the policy."""
        prefix = np.concatenate([np.array(prompt_ids), rollout.hint_ids])
        logits = (policy or self.policy).logits(prefix, rollout.response_ids)
        entropies = torch.distributions.Categorical(logits=logits).entropy()
        kept = truncated(logits / sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
        ids = torch.from_numpy(rollout.response_ids.astype(np.int64))
        return torch.distributions.Categorical(logits=kept).log_prob(ids).numpy(), entropies.numpy()


def truncated(logits: torch.Tensor, *, top_k: int, top_p: float) -> torch.Tensor:
    """Logits outside top-k and then top-p set to a large negative number, one row and one token at a time."""
    result = torch.full_like(logits, -1e9)
    for row in range(logits.shape[0]):
        order = logits[row].argsort(descending=True).tolist()
        order = order[:top_k] if top_k else order
        probabilities = logits[row, order].softmax(-1).tolist()
        mass = 0.0
        for token, probability in zip(order, probabilities, strict=True):
            if mass >= top_p:
                break
            result[row, token] = logits[row, token]
            mass += probability
    return result


def scripted_settings(*, model_path: str = "", memory_channel: MemoryChannel | None = None) -> EngineSettings:
    return EngineSettings(
        config=EngineConfig(kind="scripted", dtype="float32"),
        model_path=model_path,
        max_model_tokens=128,
        seed=0,
        sampling=Sampling(),
        memory_channel=memory_channel,
    )


def make_scripted_engine(script: Script | None = None) -> ScriptedEngine:
    """A scripted engine with a vocabulary of 100 tokens and room for 128."""
    return ScriptedEngine(scripted_settings(), vocab_size=100, script=script)
