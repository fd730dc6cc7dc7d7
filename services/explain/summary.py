"""A file of groups in a few numbers: totals, shares of tokens by class, overlaps, and what a reader must be told.

Takes explained groups; knows neither terminal nor HTML, so that both say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.explain.file import GroupFile
from services.explain.group import ExplainedGroup, kept_share
from shaping.explain import TOKEN_CLASSES, TokenClass
from shaping.less import LessOptions
from shaping.segment_counts import Overlap

NUM_LEADERS = 3
MANY_TIES = 0.05
OVERLAPS = {"O_CC": "overlap_cc", "O_WW": "overlap_ww", "O_CW": "overlap_cw", "O_WC": "overlap_wc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Totals of a file.

    Args:
        class_tokens: tokens by what decided them.
        overlaps: O_CC, O_WW, O_CW, O_WC; None where no pair of rollouts defines it.
        kept: advantage mass after shaping over the mass before; None where there is none.
        most_shared, most_correct_only: groups with the greatest share of such tokens, (label, share), the first first.
        facts: what was computed rather than given, in words; a view shows them beside the numbers.
        warnings: what a reader must not miss.
    """

    num_groups: int
    num_rollouts: int
    num_tokens: int
    num_correct: int
    num_mixed: int
    num_all_correct: int
    num_low: int
    num_ties: int
    class_tokens: dict[TokenClass, int]
    overlaps: dict[str, float | None]
    kept: float | None
    most_shared: tuple[tuple[str, float], ...]
    most_correct_only: tuple[tuple[str, float], ...]
    facts: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def num_all_incorrect(self) -> int:
        return self.num_groups - self.num_mixed - self.num_all_correct

    def share(self, number: int) -> float:
        """Of all tokens."""
        return number / self.num_tokens if self.num_tokens else 0.0


def summarise(file: GroupFile, groups: Sequence[ExplainedGroup]) -> Summary:
    """Add up the groups of a file, or those of them that were asked for.

    Args:
        groups: at least one.
    """
    correct = [int(group.record.correct.sum()) for group in groups]
    sizes = [len(group.record.responses) for group in groups]
    counts = [group.why.analysis.counts for group in groups]
    tokens = np.sum([class_tokens(group) for group in groups], axis=0).tolist()
    return Summary(
        num_groups=len(groups),
        num_rollouts=sum(sizes),
        num_tokens=sum(each.num_tokens for each in counts),
        num_correct=sum(correct),
        num_mixed=sum(0 < right < size for right, size in zip(correct, sizes, strict=True)),
        num_all_correct=sum(right == size for right, size in zip(correct, sizes, strict=True)),
        num_low=sum(each.num_low for each in counts),
        num_ties=sum(each.num_ties for each in counts),
        class_tokens=dict(zip(TOKEN_CLASSES, tokens, strict=True)),
        overlaps={name: _mean([getattr(each, field) for each in counts]) for name, field in OVERLAPS.items()},
        kept=kept_share(
            (row for group in groups for row in group.before), (row for group in groups for row in group.after)
        ),
        most_shared=_leaders(groups, TokenClass.SHARED),
        most_correct_only=_leaders(groups, TokenClass.CORRECT_ONLY),
        facts=_facts(groups),
        warnings=(*file.notices, *_warnings(groups)),
    )


def class_tokens(group: ExplainedGroup) -> list[int]:
    """Tokens of a group by class, in the order of `TOKEN_CLASSES`."""
    counts: list[int] = np.bincount(np.concatenate(group.why.class_codes), minlength=len(TOKEN_CLASSES)).tolist()
    return counts


def group_label(group: ExplainedGroup) -> str:
    """The prompt, and the step where the file has one."""
    step = group.record.labels.get("step")
    return group.record.prompt_id if step is None else f"{group.record.prompt_id} (step {step})"


def options_text(options: LessOptions) -> str:
    """The rule on one line; options that are as usual are left out, apart from the three that everybody asks for."""
    usual = LessOptions()
    text = f"LESS {options.mode}, min length {options.min_length}, quantile {options.quantile:g}"
    for name in ("membership", "scope", "match", "outside"):
        value = getattr(options, name)
        text += f", {name} {value}" if value != getattr(usual, name) else ""
    return text


def _mean(overlaps: Sequence[Overlap]) -> float | None:
    pairs = sum(each.num_pairs for each in overlaps)
    return sum(each.total for each in overlaps) / pairs if pairs else None


def _leaders(groups: Sequence[ExplainedGroup], kind: TokenClass) -> tuple[tuple[str, float], ...]:
    code = TOKEN_CLASSES.index(kind)
    shares = [(group_label(group), class_tokens(group)[code] / max(1, group.num_tokens)) for group in groups]
    return tuple(sorted((each for each in shares if each[1] > 0), key=lambda each: -each[1])[:NUM_LEADERS])


def _facts(groups: Sequence[ExplainedGroup]) -> tuple[str, ...]:
    rules = sorted({options_text(group.why.options) for group in groups})
    facts = [rules[0] if len(rules) == 1 else f"{len(rules)} sets of LESS options: " + "; ".join(rules)]
    computed = sum(group.has_computed_advantages for group in groups)
    if computed:
        which = "the file has none" if computed == len(groups) else f"{computed} of {len(groups)} groups have none"
        facts.append(f"Advantages before shaping are computed by GRPO from `correct`: {which}")
    else:
        facts.append("Advantages before shaping are the file's")
    if any(group.why.options.mode == "compat" for group in groups):
        facts.append("Mode compat: multipliers depend on the order of the responses, taken as in the file")
    return tuple(facts)


def _warnings(groups: Sequence[ExplainedGroup]) -> list[str]:
    warnings = _entropy_warnings(groups)
    unlike = sum(group.num_unlike_applied for group in groups)
    if unlike:
        warnings.append(
            f"{unlike:,} tokens have another advantage than the trainer gave them: other options, more shapers than "
            "LESS, or a run without LESS"
        )
    tied = [
        int((nats == threshold).sum()) > MANY_TIES * len(nats)
        for group in groups
        for nats, threshold in zip(group.entropies, group.why.analysis.support.thresholds, strict=True)
        if len(nats) >= 1 / MANY_TIES
    ]
    if any(tied):
        warnings.append(
            f"{sum(tied):,} responses have more than {MANY_TIES:.0%} of their tokens exactly at the threshold: "
            "such tokens break segments (membership lt)"
        )
    if not any(len(group.why.analysis.support.segments) for group in groups):
        warnings.append("No segment at all: no run of low-entropy tokens has the minimum length")
    if all(len(set(group.record.correct.tolist())) == 1 for group in groups):
        warnings.append("No group has both correct and incorrect rollouts: nothing tells right from wrong")
    return warnings


def _entropy_warnings(groups: Sequence[ExplainedGroup]) -> list[str]:
    """What bounded entropies mean for the figures; one line per bound, all tokens of such groups together."""
    warnings = []
    bounded = [group for group in groups if group.doubt is not None]
    known = [group for group in bounded if group.doubt is not None and group.doubt.num_differ is not None]
    if bounded:
        doubt = bounded[0].doubt
        assert doubt is not None
        warnings.append(
            "Entropies are NOT exact: only top-k log-probs are given, and LESS was run on the "
            f"{doubt.bound.upper()} BOUND ({len(bounded)} of {len(groups)} groups)"
        )
    if known:
        total = sum(group.num_tokens for group in known)
        differ = sum(group.doubt.num_differ or 0 for group in known if group.doubt)
        certain = sum(group.doubt.num_certain or 0 for group in known if group.doubt)
        warnings.append(
            f"Low or high differs between the two bounds for {differ:,} of {total:,} tokens; "
            f"it is certain for {certain:,}"
        )
    if len(known) < len(bounded):
        warnings.append(
            f"{len(bounded) - len(known)} groups have no vocab_size, so no upper bound: how many tokens the exact "
            "entropies would place otherwise is not known"
        )
    return warnings
