"""One rank of a DeepSpeed ZeRO-3 group: gloo between CPU processes, NCCL between GPUs. No launcher.

The process must have been started with `learner.deepspeed_env.worker_environment`. DeepSpeed averages gradients over
ranks; the loss is multiplied by the number of ranks so that what accumulates is the plain sum.
"""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import safe_get_full_grad, safe_get_local_grad
from transformers.integrations import HfDeepSpeedConfig

from learner.config import LearnerConfig, LoraConfig
from learner.deepspeed_config import deepspeed_config, reference_config
from learner.deepspeed_state import Zero3State
from learner.lora import without_adapters
from learner.policy import Policy, load_policy
from learner.scoring import ScoringEngine, make_optimizer
from shaping.errors import RecipeError

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0


class DeepSpeedEngine(ScoringEngine):
    """ZeRO-3 over `config.num_ranks` processes. A reference model is partitioned over them like the policy.

    Args:
        model_path: checkpoint of the starting policy, which is also the reference model's.
        rank: of this process, 0-based.
        address, port: where rank 0 listens.
        timeout_s: longest wait for the other ranks in one collective.
    """

    sub_group_elements = 1_000_000_000

    def __init__(
        self,
        config: LearnerConfig,
        *,
        model_path: str,
        seed: int,
        rank: int,
        address: str,
        port: int,
        timeout_s: float = 600.0,
    ) -> None:
        self._config = config
        self._model_path = model_path
        self._seed = seed
        self._rank = rank
        self._rendezvous = f"tcp://{address}:{port}"
        self._timeout_s = timeout_s
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.dtype]

    @property
    def device(self) -> torch.device:
        return torch.device(get_accelerator().current_device_name())

    def start(self) -> str:
        backend = self._join()
        torch.manual_seed(self._seed)
        options = deepspeed_config(self._config, sub_group_elements=self.sub_group_elements)
        # from_pretrained partitions parameters as it reads them, for as long as this object is alive.
        self._zero_init = HfDeepSpeedConfig(options)
        policy = self._load(self._config.gradient_checkpointing, self._config.lora)
        self._publish(policy)
        self._trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        optimizer = make_optimizer(self._config.optimizer, policy)
        self._engine, *_ = deepspeed.initialize(model=policy, optimizer=optimizer, config=options)
        self._optimizer, self._model = optimizer, self._engine
        self._state = Zero3State(self._engine, self.gather_objects, self._rank)
        if self._config.kl.coefficient > 0:
            self._reference = self._frozen_start()
        ranks = f"{self._config.num_ranks} ranks" if self._config.num_ranks > 1 else "1 rank"
        return f"deepspeed {deepspeed.__version__} ZeRO-3, {backend}, {self._config.dtype}, {ranks}"

    def _join(self) -> str:
        accelerator = get_accelerator().device_name()
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if not accelerator.startswith(wanted):
            raise RecipeError(f"DS_ACCELERATOR must be {wanted} before DeepSpeed is imported, got {accelerator}")
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # DeepSpeed 0.19.8 calls collectives by names that torch 2.13 calls deprecated, once per call site and rank.
        warnings.filterwarnings("ignore", message=r".*(all_gather|reduce_scatter)_single", category=FutureWarning)
        if wanted == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        else:
            # Otherwise init_distributed compiles an extension with g++ and fills the shared-memory file system.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "nccl" if wanted == "cuda" else "gloo"
        deepspeed.init_distributed(
            dist_backend=backend,
            auto_mpi_discovery=False,
            verbose=False,
            timeout=timedelta(seconds=self._timeout_s),
            init_method=self._rendezvous,
            rank=self._rank,
            world_size=self._config.num_ranks,
        )
        return backend

    def _frozen_start(self) -> Callable[..., torch.Tensor]:
        if self._config.lora.rank:
            return without_adapters(self._engine)
        frozen = self._load(False).requires_grad_(False)
        engine, *_ = deepspeed.initialize(model=frozen, config=reference_config(self._config))
        reference: Callable[..., torch.Tensor] = engine
        return reference

    def _load(self, gradient_checkpointing: bool, lora: LoraConfig | None = None) -> Policy:
        return load_policy(
            self._model_path,
            dtype=self._dtype,
            chunk_tokens=self._config.logprob_chunk_tokens,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            seed=self._seed,
        )

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(is_last)
        self._engine.backward(loss * self._config.num_ranks)

    def grad_norm(self) -> float:
        squares = torch.zeros((), dtype=torch.float64, device=self.device)
        for parameter in self._trained:
            squares += safe_get_local_grad(parameter).double().pow(2).sum()
        dist.all_reduce(squares)
        return math.sqrt(float(squares))

    def update(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    def limit_grad_norm(self, max_grad_norm: float) -> None:
        # DeepSpeed 0.19.8 reads its option once, into this attribute of its ZeRO-3 optimizer.
        self._engine.optimizer.clip_grad = max_grad_norm

    def discard_gradient(self) -> None:
        self._engine.optimizer.zero_grad()

    def gather_objects(self, value: T) -> list[T]:
        gathered: list[Any] = [None] * self._config.num_ranks
        dist.all_gather_object(gathered, value)
        return gathered

    def gather_tokens(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        widths = self.gather_objects(values.shape[1])
        padded = torch.nn.functional.pad(values, (0, max(widths) - values.shape[1])).contiguous()
        rows = [torch.empty_like(padded) for _ in widths]
        dist.all_gather(rows, padded)
        joined = torch.cat([row[:, :width] for row, width in zip(rows, widths, strict=True)], dim=1)
        return joined, sum(widths[: self._rank])

    @contextmanager
    def gathered(self, names: tuple[str, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
        tensors = [self._published(name) for name in names]
        parts = [part for tensor in tensors for part in tensor.parts]
        with deepspeed.zero.GatheredParameters(parts, modifier_rank=None):
            yield tuple(tensor.value() for tensor in tensors)

    def full_gradient(self, name: str) -> torch.Tensor:
        gradient: torch.Tensor = safe_get_full_grad(self._published(name).parts[0])
        return gradient.float().clone()

    def save(self, directory: Path) -> tuple[str, ...]:
        return self._state.save(directory)

    def load(self, directory: Path, num_ranks: int) -> None:
        if num_ranks == self._config.num_ranks:
            self._state.load(directory)
        else:
            self._state.load_resharded(directory)
        self._follow_recipe()

    def close(self) -> None:
        if not dist.is_initialized():
            return
        self._engine.destroy()
        if dist.get_backend() == "gloo":
            # A rank that leaves while another still talks to its store can abort that other one. After a failure the
            # others may never come.
            with suppress(RuntimeError):
                dist.monitored_barrier(timeout=timedelta(seconds=CLOSE_TIMEOUT_S))
        dist.destroy_process_group()
