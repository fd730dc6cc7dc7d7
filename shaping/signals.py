"""What a plug-in may need beyond the tokens themselves. A run that cannot supply one is refused at start, by name."""

from enum import StrEnum


class Signal(StrEnum):
    """A quantity that some part of the run must supply.

    Supplied by the rollout engine: BEHAVIOR_LOGPROBS, RAW_ENTROPIES, PROCESSED_ENTROPIES.
    By the data source: SOLUTION_STEPS. By the rewards: VERDICTS. By the shaping role, from the policy's tokenizer:
    TOKEN_TEXT, the text of any run of tokens.
    By the learner: POLICY_LOGPROBS, POLICY_ENTROPIES (both current and detached), DIFFERENTIABLE_ENTROPIES,
    UPDATE_ENTROPY (the mean over an update's trained tokens, known before its gradient; costs one more forward pass),
    REFERENCE_LOGPROBS (only with a reference model).
    """

    BEHAVIOR_LOGPROBS = "behavior_logprobs"
    RAW_ENTROPIES = "raw_entropies"
    PROCESSED_ENTROPIES = "processed_entropies"
    SOLUTION_STEPS = "solution_steps"
    VERDICTS = "verdicts"
    POLICY_LOGPROBS = "policy_logprobs"
    POLICY_ENTROPIES = "policy_entropies"
    DIFFERENTIABLE_ENTROPIES = "differentiable_entropies"
    UPDATE_ENTROPY = "update_entropy"
    REFERENCE_LOGPROBS = "reference_logprobs"
    TOKEN_TEXT = "token_text"
