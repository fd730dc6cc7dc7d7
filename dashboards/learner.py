"""lessrl-learner: loss, gradients, how far the policy moved, what sampler and learner disagree in, and the hardware."""

from dashboards.frame import dashboard
from dashboards.model import Dashboard, Section, Unit, good_above, good_below, good_between
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from dashboards.panels import density, lines, per_run, per_run_and, rare, tail_by
from dashboards.promql import level, mean, per_step_second

_SIDES = {"low": BLUE, "high": ORANGE, "dual": PURPLE}
_QUANTITIES = {"logprob": BLUE, "entropy": ORANGE}
_MEMORY = {"allocated": BLUE, "reserved": GREY, "peak": VERMILION}
_PHASES = {"recompute": PURPLE, "plan": GREY, "forward": BLUE, "backward": GREEN, "optimizer": ORANGE}

_OPTIMIZATION = Section(
    "Optimization",
    (
        lines(
            "Loss",
            "Sum of all terms. Good: small and without drift; its size says little, a jump says much.",
            Unit.NUMBER,
            per_run(level("less_learner_loss")),
        ),
        lines(
            "Terms of the loss",
            "Each with its coefficient. Good: policy is the largest; a term that outgrows it steers the run.",
            Unit.NUMBER,
            per_run_and("term", level("less_learner_loss_term", "term")),
        ),
        lines(
            "Gradient norm",
            "Global, before clipping, the mean of a step's updates. Good: level; ten times its median is "
            "GradNormSpike.",
            Unit.NUMBER,
            per_run(level("less_learner_grad_norm")),
            minimum=0,
        ),
        lines(
            "Learning rate",
            "Mean of a step's updates. Good: as the recipe's schedule says.",
            Unit.SMALL,
            per_run(level("less_learner_learning_rate")),
            minimum=0,
        ),
        lines(
            "Token entropy in the learner",
            "Mean over trained tokens; before an update where a regulariser needs it (learner.regularisers: ter). "
            "Good: as in the sampler, see the overview; falling slowly, or at the regulariser's target.",
            Unit.NATS,
            per_run(level("less_learner_entropy_nats")),
            per_run(level("less_learner_update_entropy_nats"), "before"),
            colours={"before": GREY},
            minimum=0,
        ),
        rare(
            "Skipped steps",
            "Steps whose loss or gradient was not finite, in the window before each point. Good: 0 (NonFinite); "
            "`lessrl replay` finds the group.",
            "less_learner_skipped_steps_total",
        ),
    ),
)
_MOVEMENT = Section(
    "How far the policy moved",
    (
        lines(
            "KL to the reference",
            "By the recipe's estimator; absent without a reference. Good: below 0.1 nats per token; above 0.5 KLHigh.",
            Unit.NATS,
            per_run(level("less_learner_kl_nats")),
            limits=good_below(0.1, 0.5),
        ),
        lines(
            "KL within the step",
            "KL(old || policy), estimator k1, which may be below 0: how far a step's updates moved the policy. "
            "Good: within 0.02 of 0; 0 where a step is one update.",
            Unit.NATS,
            per_run(level("less_learner_old_kl_nats")),
            limits=good_between(-0.02, 0.02),
        ),
        lines(
            "Clipped tokens",
            "Tokens whose importance ratio was clipped / trained tokens, by the bound. Good: below 0.05; near 0.2 the "
            "step is too large, lower the learning rate or make fewer updates a step.",
            Unit.RATIO,
            per_run_and("side", level("less_learner_clip_ratio", "side")),
            colours=_SIDES,
            limits=good_below(0.05, 0.2),
            minimum=0,
        ),
        density(
            "Importance ratios",
            "Where exp(policy - old log-prob) of the trained tokens lies. Good: a narrow band around 1; all at 1 "
            "where a step is one update.",
            Unit.NUMBER,
            "less_learner_importance_ratio",
        ),
        lines(
            "Importance ratio",
            "Mean of the last step, mean of the window from the exact sum, and the largest. Good: the mean within "
            "0.01 of 1; the largest below the recipe's dual clip.",
            Unit.NUMBER,
            per_run(level("less_learner_importance_ratio_mean"), "mean"),
            per_run(mean("less_learner_importance_ratio"), "window"),
            per_run(level("less_learner_importance_ratio_max"), "largest"),
            colours={"mean": BLUE, "window": GREY, "largest": VERMILION},
        ),
        lines(
            "Token weights",
            "Mean product of the weights of token plans and correction, and the mean weight of the correction alone. "
            "Good: near 1; absent for what the recipe does not use.",
            Unit.NUMBER,
            per_run(level("less_learner_token_weight_mean"), "all"),
            per_run(level("less_learner_correction_weight_mean"), "correction"),
            colours={"all": BLUE, "correction": ORANGE},
        ),
    ),
)
_MISMATCH = Section(
    "Sampler and learner on the same tokens, before a step's first update",
    (
        lines(
            "Mismatch KL",
            "KL(sampler || learner), estimator k3, and k1, which may be below 0. Good: below 0.001 nats; above 0.01 "
            "MismatchKLHigh: precision, sampling settings or weights differ.",
            Unit.NATS,
            per_run(level("less_learner_mismatch_kl_nats"), "k3"),
            per_run(level("less_learner_mismatch_kl_k1_nats"), "k1"),
            colours={"k3": BLUE, "k1": GREY},
            limits=good_below(0.001, 0.01),
        ),
        lines(
            "Mean difference",
            "Mean |learner - sampler| of log-prob and entropy. Good: below 0.02 nats in bfloat16, 1e-4 in float32.",
            Unit.NATS,
            per_run_and("quantity", level("less_learner_difference_mean_nats", "quantity")),
            colours=_QUANTITIES,
            limits=good_below(0.02),
            minimum=0,
        ),
        lines(
            "Largest difference",
            "Of one token of the step. Good: below 1 nat; single tokens far above are ties that round differently.",
            Unit.NATS,
            per_run_and("quantity", level("less_learner_difference_max_nats", "quantity")),
            colours=_QUANTITIES,
            limits=good_below(1),
            minimum=0,
        ),
        lines(
            "Effective sample size",
            "Of the weights exp(learner - sampler log-prob), as part of the tokens; 1 where both agree. Good: above "
            "0.95; below 0.5 the gradient rests on few tokens, turn learner.correction on.",
            Unit.RATIO,
            per_run(level("less_learner_effective_sample_ratio")),
            limits=good_above(0.95, 0.5),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Corrected tokens",
            "Tokens that learner.correction clamped, or left out / trained tokens. Good: below 0.05; absent without "
            "it.",
            Unit.RATIO,
            per_run_and("effect", level("less_learner_correction_ratio", "effect")),
            limits=good_below(0.05),
            minimum=0,
        ),
        lines(
            "Hints",
            "Negative log-likelihood of hint tokens; absent where the recipe gives no hints. Good: it falls.",
            Unit.NATS,
            per_run(level("less_learner_hint_nll_nats")),
            minimum=0,
        ),
    ),
)
_WORK = Section(
    "Speed and memory",
    (
        lines(
            "Tokens per second",
            "Tokens in forward passes, and padding, per second of the steps. Good: level, padding near 0.",
            Unit.COUNT,
            per_run(per_step_second("less_learner_tokens_total"), "tokens"),
            per_run(per_step_second("less_learner_padding_tokens_total"), "padding"),
            colours={"tokens": GREEN, "padding": GREY},
            axis="tokens/s",
            minimum=0,
        ),
        lines(
            "Time of a learner step by phase",
            "Mean seconds of the slowest rank. Good: backward is about twice forward, the others small; absent phases "
            "are not used.",
            Unit.SECONDS,
            per_run_and("phase", mean("less_learner_seconds", "phase")),
            colours=_PHASES,
            minimum=0,
        ),
        lines(
            "Slow learner steps by phase",
            "95 of 100 steps are below. Good: within half of the mean more.",
            Unit.SECONDS,
            *tail_by("less_learner_seconds", "phase"),
            colours=_PHASES,
            minimum=0,
        ),
        lines(
            "Wasted work",
            "Padding / (tokens + padding), and the time that ranks wait for one another in micro-batches. Good: "
            "padding 0 with layout packed; imbalance below 0.1.",
            Unit.RATIO,
            per_run(level("less_learner_padding_ratio"), "padding"),
            per_run(level("less_learner_rank_imbalance_ratio"), "imbalance"),
            colours={"padding": GREY, "imbalance": ORANGE},
            limits=good_below(0.1),
            minimum=0,
        ),
        lines(
            "Model FLOP/s utilization",
            "Of a learner step, beside the peak of its devices; absent where the peak is not known, as on a CPU. "
            "Good: above 0.3 on GPUs for models of some billions of parameters.",
            Unit.RATIO,
            per_run(level("less_learner_model_flops_utilization_ratio")),
            limits=good_above(0.3),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Device memory",
            "Of the fullest rank: allocated and reserved at the step's end, and the peak since it began; absent on a "
            "CPU. Good: peak below 0.95 of the device.",
            Unit.BYTES,
            per_run_and("kind", level("less_learner_memory_bytes", "kind")),
            colours=_MEMORY,
            minimum=0,
        ),
    ),
)


def learner() -> Dashboard:
    """From shaped groups to weights."""
    return dashboard(
        "learner",
        "Learner",
        "Loss, gradients, how far the policy moves, and where sampler and learner disagree.",
        *(_OPTIMIZATION, _MOVEMENT, _MISMATCH, _WORK),
    )
