"""Panels that may be empty in the run of the proof, each with its reason."""

from dashboards.proof.judging import Allowance

_NO_GPU = "this run has no GPU"
_NO_HINTS = "this run's prompts have no hints"
_NO_SURPLUS = "this run admits a batch at a time"
_NOT_ONCE = "it did not happen, and Ray shows a counter from its first event on"

ALLOWED = (
    Allowance(dashboard="lessrl-learner", panel="Hints", reason=_NO_HINTS),
    Allowance(
        dashboard="lessrl-learner",
        panel="Token entropy in the learner",
        query="B",
        reason="no regulariser of this run needs the entropy before an update",
    ),
    *(
        Allowance(dashboard="lessrl-rollout", panel=panel, reason=_NO_HINTS)
        for panel in (
            *("Accuracy by round", "Hint rate", "Error of the accuracy curves", "Rates at an end"),
            "Hinted groups without signal",
        )
    ),
    Allowance(dashboard="lessrl-rollout", panel="Groups left over", reason=_NO_SURPLUS),
    Allowance(dashboard="lessrl-rollout", panel="Age of groups left over", reason=_NO_SURPLUS),
    Allowance(dashboard="lessrl-shaping", panel="Responses that were cut", reason="this run cuts no responses"),
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
