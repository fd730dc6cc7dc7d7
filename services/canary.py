"""The canary: one fixed prompt that every engine answers after every weight sync, and the learner scores.

Checksums prove that the bytes arrived; the canary proves that what is sampled from them is the learner's policy. Its
tokens mean nothing: they are small ids, which every vocabulary has.
"""

import numpy as np

from shaping.records import EntropySource, GroupRequest, Message, Prompt, Sampling

PROMPT_IDS = (3, 1, 4, 1, 5)
MAX_RESPONSE_TOKENS = 2
"""Few, since every sync waits for them: other weights move each token's log-prob."""
SEED = 31415


def canary_request(entropy_source: EntropySource) -> GroupRequest:
    """The request of the canary, the same in every run.

    Args:
        entropy_source: that the engines of the run report; the canary itself does not read entropies.
    """
    prompt = Prompt(
        prompt_id="canary", messages=(Message(role="user", content="canary"),), reference_answer="none", position=0
    )
    return GroupRequest(
        group_id="canary",
        prompt=prompt,
        prompt_ids=np.array(PROMPT_IDS, dtype=np.int32),
        hint_ids=np.empty(0, dtype=np.int32),
        round_index=0,
        num_rollouts=1,
        sampling=Sampling(temperature=1.0, max_response_tokens=MAX_RESPONSE_TOKENS, entropy_source=entropy_source),
        seed=SEED,
    )
