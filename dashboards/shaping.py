"""lessrl-shaping: what LESS finds in the groups, and what it does to their advantages."""

from dashboards.frame import dashboard
from dashboards.model import Dashboard, Section, Unit, good_above, good_below, good_between
from dashboards.palette import (
    DIRECTIONS,
    ENTROPY_CLASSES,
    GREEN,
    GREY,
    ORANGE,
    OUTCOMES,
    PAIRS,
    PURPLE,
    SEGMENTS,
    SKY,
    STAGES,
    TOKENS,
    VERDICTS,
)
from dashboards.panels import density, lines, mixture, per_run, per_run_and, rare, share_lines, tail_by
from dashboards.promql import level, mean, part, per_step, quantile

_MULTIPLIERS = {"zero": GREY, "single": ORANGE, "partial": SKY, "full": GREEN}
_CLASS = "segment_class"

_GROUPS = Section(
    "What came in",
    (
        mixture(
            "Outcome of groups",
            "Scored groups by how many of their rollouts are correct. Only mixed groups have an advantage, and only in "
            "them is a segment correct-only or incorrect-only. Good: mixed is the largest part.",
            "less_groups_total",
            "outcome",
            OUTCOMES,
        ),
        lines(
            "Groups without signal",
            "Groups whose every advantage is 0, and groups that were kept / those that ended. "
            "Good: kept near 1 without a filter; with one it is the price of each trained group.",
            Unit.RATIO,
            per_run(part("less_groups_without_signal_total", "less_groups_attempts_total"), "without signal"),
            per_run(level("less_groups_keep_ratio"), "kept"),
            colours={"signal": ORANGE, "kept": GREEN},
            minimum=0,
        ),
        density(
            "Token entropy",
            "Where the entropies of response tokens lie, as part of all tokens. Good: most are near 0, with a tail "
            "above 1 nat, the forks. A tail that vanishes is a policy that explores no more.",
            Unit.NATS,
            "less_shaping_token_entropy_nats",
        ),
        lines(
            "Responses that were cut",
            "By the transform dot, which shortens the longest responses of groups that are solved / responses that it "
            "saw. Good: below 0.1; it cuts the tail of lengths, not their middle. Absent without dot.",
            Unit.RATIO,
            per_run(level("less_dot_cut_responses_ratio")),
            limits=good_below(0.1),
            minimum=0,
            width=24,
        ),
    ),
)
_CUT = Section(
    "The cut at the entropy threshold",
    (
        lines(
            "Low-entropy share",
            "Tokens at or below their rollout's entropy threshold / tokens. Good: the quantile of the recipe "
            "(shaping.segments.quantile), 0.8 unless you changed it; the lines are at 0.7 and 0.9. Far above it, many "
            "entropies are equal to the threshold: see ties.",
            Unit.RATIO,
            per_run(part("less_shaping_tokens_total", "less_shaping_tokens_total", entropy_class="low"), "of tokens"),
            per_run(level("less_segments_low_tokens_ratio"), "last step"),
            limits=good_between(0.7, 0.9),
            minimum=0,
            maximum=1,
        ),
        mixture(
            "Tokens by entropy class",
            "Tokens at or below their threshold, and above. Good: 0.8 to 0.2 for quantile 0.8.",
            "less_shaping_tokens_total",
            "entropy_class",
            ENTROPY_CLASSES,
        ),
        lines(
            "Entropy threshold",
            "Mean threshold of the rollouts of a step. Good: above 0 and slow. At 0 the sampler is all but certain "
            "everywhere, and low entropy says nothing.",
            Unit.NATS,
            per_run(level("less_segments_threshold_nats")),
            minimum=0,
        ),
        lines(
            "Ties at the threshold",
            "Tokens whose entropy is equal to their threshold / tokens. Good: below 0.05; many come of rounded "
            "entropies, or of a policy that is certain of most tokens.",
            Unit.RATIO,
            per_run(level("less_segments_tie_tokens_ratio")),
            limits=good_below(0.05),
            minimum=0,
        ),
        lines(
            "Tokens in segments",
            "Tokens in a low-entropy segment that is long enough / tokens. Good: 0.5 to 0.7 with the defaults; "
            "near 0 there is nothing for LESS to compare.",
            Unit.RATIO,
            per_run(level("less_segments_covered_tokens_ratio")),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Mean entropy",
            "Mean of the tokens' entropy, from the exact sum of the distribution. Good: as on the overview.",
            Unit.NATS,
            per_run(mean("less_shaping_token_entropy_nats")),
            minimum=0,
        ),
    ),
)
_SEGMENTS = Section(
    "Segments",
    (
        mixture(
            "Segments by class",
            "Low-entropy segments by which rollouts of their group have them: correct ones only, incorrect ones only, "
            "both (shared), or nobody else (unique). Good: all classes are there; mostly shared is text of a template.",
            "less_segments_total",
            _CLASS,
            SEGMENTS,
        ),
        mixture(
            "Segment tokens by class",
            "The same, by tokens. Good: correct-only grows with accuracy.",
            "less_segments_tokens_total",
            _CLASS,
            SEGMENTS,
        ),
        lines(
            "Segments per step",
            "Segments of a step by class. Good: grows with the responses.",
            Unit.COUNT,
            per_run_and(_CLASS, per_step("less_segments_total", _CLASS)),
            colours=SEGMENTS,
            axis="segments",
            minimum=0,
        ),
        lines(
            "Segment length",
            "Mean length by class, from exact sums, and of all. Good: a few tokens above the recipe's "
            "shaping.segments.min_length.",
            Unit.COUNT,
            per_run_and(_CLASS, mean("less_segment_length_tokens", _CLASS)),
            per_run(level("less_segments_length_tokens"), "all"),
            colours=SEGMENTS,
            axis="tokens",
            minimum=0,
        ),
        density(
            "Lengths of correct-only segments",
            "Where their lengths lie, as part of all of them. Good: spread; all in the lowest range means that "
            "min_length cuts what would be found.",
            Unit.COUNT,
            "less_segment_length_tokens",
            axis="tokens",
            segment_class="correct_only",
        ),
        density(
            "Lengths of incorrect-only segments",
            "Where their lengths lie, as part of all of them. Good: spread; a long tail is repetition.",
            Unit.COUNT,
            "less_segment_length_tokens",
            axis="tokens",
            segment_class="incorrect_only",
        ),
    ),
)
_OVERLAP = Section(
    "Overlap: what the rollouts of a group have in common",
    (
        lines(
            "Overlap by pair",
            "Share of a rollout's segment tokens whose strings another rollout of its group has too, the mean of the "
            "last step's pairs; the first of the pair is the rollout. Good: correct_correct is the highest and "
            "rises, and the mixed pairs stay low: correct rollouts come to agree on what works.",
            Unit.RATIO,
            per_run_and("pair", level("less_segments_overlap_ratio", "pair")),
            colours=PAIRS,
            minimum=0,
            maximum=1,
        ),
        lines(
            "Overlap by pair, median group",
            "Half of the groups are below. Good: near the mean; far below it a few groups of one template make the "
            "mean.",
            Unit.RATIO,
            per_run_and("pair", quantile(0.5, "less_segment_overlap_ratio", "pair")),
            colours=PAIRS,
            minimum=0,
            maximum=1,
        ),
        density(
            "Overlap of correct with incorrect rollouts",
            "Where the groups lie, as part of all mixed groups. Good: mostly below 0.5; near 1 correct and incorrect "
            "rollouts are one text but for the answer, LESS sets nearly all of it to 0, and little is learned.",
            Unit.RATIO,
            "less_segment_overlap_ratio",
            pair="correct_incorrect",
        ),
    ),
)
_MULTIPLIER = Section(
    "What shaping does to tokens",
    (
        lines(
            "Mean multiplier by class",
            "Mean factor of a token's advantage, all shapers together, by the class of its segment; from exact sums. "
            "Good with LESS: shared 0; correct-only and incorrect-only near k/N, for k of the class's N rollouts that "
            "have the segment; unique near 1/N (a part that another segment covers too is judged by that one, 0 if it "
            "is shared); outside between 1/N and 1, as forks keep all and stray low tokens 1/N.",
            Unit.NUMBER,
            per_run_and(_CLASS, mean("less_shaping_multiplier", _CLASS)),
            colours=TOKENS,
            minimum=0,
        ),
        density(
            "Multipliers in correct-only segments",
            "Where the multipliers of their tokens lie. Good with LESS: spread from 1/N to 1, towards 1 where correct "
            "rollouts agree; few at 0, parts that a shared segment covers too. `lessrl explain` shows single tokens.",
            Unit.NUMBER,
            "less_shaping_multiplier",
            segment_class="correct_only",
        ),
        density(
            "Multipliers in incorrect-only segments",
            "Where the multipliers of their tokens lie. Good with LESS: lower than in correct-only segments, as "
            "rollouts go wrong each in its own way.",
            Unit.NUMBER,
            "less_shaping_multiplier",
            segment_class="incorrect_only",
        ),
        lines(
            "Tokens by LESS multiplier",
            "Tokens by their multiplier: 0, 1/N of the N rollouts of the class (single), between, or 1 (full). "
            "Good: full is what the cut leaves above it, 0.2, and more where all N have a segment; zero below 0.5, "
            "else the group's rollouts are nearly the same text. Absent without LESS.",
            Unit.RATIO,
            per_run_and("multiplier", level("less_tokens_ratio", "multiplier")),
            colours=_MULTIPLIERS,
            minimum=0,
            maximum=1,
        ),
        share_lines(
            "Direction of shaping",
            "Tokens whose advantage shaping raised, lowered or left / response tokens. Good with LESS: 0.2 or more is "
            "unchanged, and none is raised.",
            "less_shaping_scaled_tokens_total",
            "direction",
            "less_shaping_scaled_tokens_total",
            DIRECTIONS,
        ),
        lines(
            "Tail of the multipliers",
            "95 of 100 tokens of a class have at most this multiplier. Good with LESS: at most 1; above it another "
            "shaper raises advantages.",
            Unit.NUMBER,
            *tail_by("less_shaping_multiplier", _CLASS),
            colours=TOKENS,
            minimum=0,
        ),
    ),
)
_ADVANTAGES = Section(
    "What is left of the advantage",
    (
        lines(
            "Kept advantage mass",
            "Sum of |advantage| after / before, of all shapers, and of LESS alone. Good with LESS: 0.35 to 0.5; below "
            "0.2 little is left to learn from, and the rollouts of a group are too much alike.",
            Unit.RATIO,
            per_run(level("less_advantage_kept_mass_ratio"), "all"),
            per_run(level("less_kept_mass_ratio"), "LESS"),
            colours={"all": PURPLE, "LESS": GREEN},
            limits=good_above(0.2),
            minimum=0,
        ),
        lines(
            "Kept mass by verdict",
            "What LESS leaves to the correct rollouts, and to the incorrect ones. Good: within 0.2 of each other; "
            "further apart, shaping moves the balance of encouraging and discouraging.",
            Unit.RATIO,
            per_run_and("verdict", level("less_kept_mass_by_verdict_ratio", "verdict")),
            colours=VERDICTS,
            minimum=0,
            maximum=1,
        ),
        lines(
            "Net advantage mass",
            "Signed sum after / sum of |advantage| before, of all shapers, and of LESS alone. Good: within 0.1 of 0; "
            "well below, the policy is mostly pushed away from what it does, which unsettles it.",
            Unit.RATIO,
            per_run(level("less_advantage_net_mass_ratio"), "all"),
            per_run(level("less_net_mass_ratio"), "LESS"),
            colours={"all": PURPLE, "LESS": GREEN},
            limits=good_between(-0.1, 0.1),
        ),
        lines(
            "Advantage size",
            "Mean |advantage| of a token before shaping (base) and after. Good: shaped below base, and not near 0.",
            Unit.NUMBER,
            per_run_and("stage", level("less_advantage_abs_value", "stage")),
            colours=STAGES,
            minimum=0,
        ),
        lines(
            "Mean advantage",
            "Signed mean of a token before shaping and after. Good: both near 0 beside the standard deviation.",
            Unit.NUMBER,
            per_run_and("stage", level("less_advantage_mean_value", "stage")),
            colours=STAGES,
        ),
        lines(
            "Standard deviation of the advantage",
            "Over tokens, before shaping and after. Good: level; it falls as groups turn all correct.",
            Unit.NUMBER,
            per_run_and("stage", level("less_advantage_std_value", "stage")),
            colours=STAGES,
            minimum=0,
        ),
        density(
            "Shaped advantages",
            "Where the advantages of response tokens lie after shaping. Good: on both sides of 0; all at 0 are groups "
            "without signal, or a shaper that takes everything.",
            Unit.NUMBER,
            "less_advantage_value",
            width=24,
        ),
    ),
)
_COST = Section(
    "What it costs",
    (
        lines(
            "Time per group",
            "Mean time of shaping a group: segments and their support, and advantages and multipliers. "
            "Good: below 0.1 s, far below a group's sampling.",
            Unit.SECONDS,
            per_run_and("phase", mean("less_shaping_group_seconds", "phase")),
            colours={"segment": SKY, "scale": ORANGE},
            limits=good_below(0.1, 1),
            minimum=0,
        ),
        lines(
            "Time per group, slowest",
            "95 of 100 groups take less. Good: within ten times the mean; long repetitive responses cost the most.",
            Unit.SECONDS,
            *tail_by("less_shaping_group_seconds", "phase"),
            colours={"segment": SKY, "scale": ORANGE},
            minimum=0,
        ),
        rare(
            "Dropped groups",
            "Groups that were not trained, by reason, in the window before each point. Good: only no_signal, and "
            "filtered with a filter; no_verdict and empty point at the verifier and the sampler.",
            "less_groups_dropped_total",
            "reason",
        ),
    ),
)


def shaping() -> Dashboard:
    """What no other trainer shows."""
    return dashboard(
        "shaping",
        "Shaping",
        "Segments of the groups, their classes and overlap, and what shaping makes of the advantages.",
        *(_GROUPS, _CUT, _SEGMENTS, _OVERLAP, _MULTIPLIER, _ADVANTAGES, _COST),
    )
