"""Panels that may be empty in the run of the proof, each with its reason."""

from dashboards.proof.judging import Allowance

_NO_GPU = "this run has no GPU"
_NOT_ONCE = "it did not happen, and Ray shows a counter from its first event on"

ALLOWED = (
    Allowance(dashboard="lessrl-learner", panel="Hints", reason="this run's prompts have no hints"),
    Allowance(
        dashboard="lessrl-learner", panel="Model FLOP/s utilization", reason="nobody knows the peak FLOP/s of a CPU"
    ),
    Allowance(dashboard="lessrl-learner", panel="Device memory", reason=_NO_GPU),
    Allowance(
        dashboard="lessrl-infrastructure",
        panel="Prefix cache",
        reason=f"prompts are shorter than a block of the cache: {_NOT_ONCE}",
    ),
    Allowance(dashboard="lessrl-infrastructure", panel="Preemptions", reason=_NOT_ONCE),
    Allowance(dashboard="lessrl-infrastructure", panel="GPU utilization", reason=_NO_GPU),
    Allowance(dashboard="lessrl-infrastructure", panel="GPU memory", reason=_NO_GPU),
    Allowance(dashboard="lessrl-infrastructure", panel="Worker processes that failed", query="B", reason=_NOT_ONCE),
)
