"""Samples from an exported policy with the real vLLM: python vllm_export_worker.py MODEL_PATH OUT_FILE.

A process of its own, with `vllm_env.worker_environment(CONFIG)`, so that neither a learner's threads nor another engine
can be in its way.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from rollout.config import EngineConfig
from rollout.engines import EngineSettings, make_engine
from shaping.records import Sampling

CONFIG = EngineConfig(
    kind="vllm", dtype="float32", max_num_seqs=16, kv_cache_bytes=2**26, enforce_eager=True, max_proof_error=1e-4
)
PROMPT_IDS = [5, 17, 42, 99, 7]
SAMPLING = Sampling(temperature=1.0, max_response_tokens=24)


async def main() -> None:
    settings = EngineSettings(config=CONFIG, model_path=sys.argv[1], max_model_tokens=64, seed=1, sampling=SAMPLING)
    engine = make_engine(settings)
    await engine.start()
    rollouts = await engine.generate(
        prompt_ids=np.array(PROMPT_IDS, dtype=np.int32),
        hint_ids=np.array([], dtype=np.int32),
        num_rollouts=4,
        sampling=SAMPLING,
        seed=0,
    )
    found = [{"ids": each.response_ids.tolist(), "logprobs": each.behavior_logprobs.tolist()} for each in rollouts]
    Path(sys.argv[2]).write_text(json.dumps(found))
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main())
