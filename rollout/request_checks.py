"""What every engine checks of a request before it samples, and the random stream a request gets."""

from dataclasses import dataclass

import numpy as np

from shaping.checks import IntArray, check_ids, require
from shaping.records import EntropySource, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What an engine can take.

    Args:
        vocab_size: token ids are below it.
        max_model_tokens: longest prompt + hint + response.
        entropy_source: the distribution whose entropies this engine reports.
    """

    vocab_size: int
    max_model_tokens: int
    entropy_source: EntropySource

    def response_budget(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling
    ) -> int:
        """Most tokens to sample: `max_response_tokens`, or fewer where the model's length ends first.

        Raises:
            RecordError: a token id outside the vocabulary, no prompt, no room for one token, or another entropy source.
        """
        where = "Engine.generate"
        check_ids(prompt_ids, "prompt_ids", where)
        check_ids(hint_ids, "hint_ids", where)
        require(len(prompt_ids) > 0, "prompt_ids must hold at least one token", where)
        require(num_rollouts >= 1, f"num_rollouts must be >= 1, got {num_rollouts}", where)
        highest = max(int(prompt_ids.max()), int(hint_ids.max()) if len(hint_ids) else 0)
        require(highest < self.vocab_size, f"token ids must be < {self.vocab_size}, got {highest}", where)
        require(
            sampling.entropy_source is self.entropy_source,
            f"this engine reports {self.entropy_source} entropies, the request wants {sampling.entropy_source}",
            where,
        )
        room = self.max_model_tokens - len(prompt_ids) - len(hint_ids)
        require(
            room >= 1,
            f"prompt + hint must leave room for a response: {len(prompt_ids)} + {len(hint_ids)} tokens, the engine "
            f"takes {self.max_model_tokens}",
            where,
        )
        return min(room, sampling.max_response_tokens)


def stream_seed(seed: int) -> int:
    """Seed of rollout 0 of a request, in [0, 2^62); rollout i uses this plus i.

    The hash keeps requests with neighbouring seeds from sharing streams, which `seed + i` alone would do.
    """
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> 2
