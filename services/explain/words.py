"""Why a token got its multiplier, in plain words. One place for terminal and HTML.

Tokens with the same `Reason` have the same words, so that a view writes them once.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np

from services.explain.group import ExplainedGroup
from shaping.checks import split_rows
from shaping.explain import HeldString
from shaping.support import SHARED, STRAY


class Reason(NamedTuple):
    """What the words of a token depend on, beside its group.

    Args:
        code: index into `TOKEN_CLASSES`.
        support: by the mode, see `GroupSupport.token_support`.
        contained: by containment.
        string: index into `GroupExplanation.strings`; -1 for none.
        is_correct: verdict of the token's rollout.
        is_tie: its entropy equals the threshold.
    """

    code: int
    support: int
    contained: int
    string: int
    is_correct: bool
    is_tie: bool


def reasons(group: ExplainedGroup, row: int) -> Iterator[Reason]:
    """The reason of each token of a response."""
    for reason, times in reason_runs(group, row):
        yield from repeat(reason, times)


def reason_runs(group: ExplainedGroup, row: int) -> Iterator[tuple[Reason, int]]:
    """The same as run lengths: a reason, and for how many tokens on end it holds."""
    why = group.why
    support = why.analysis.support
    contained = split_rows(support.token_support, [len(each) for each in group.entropies])[row]
    ties = group.entropies[row] == support.thresholds[row]
    columns = (why.class_codes[row], why.supports[row], contained, why.string_indices[row], ties)
    table = np.stack([column.astype(np.int64) for column in columns], axis=1)
    starts = np.flatnonzero(np.r_[len(table) > 0, (table[1:] != table[:-1]).any(axis=1)])
    lengths = np.diff(np.append(starts, len(table)))
    is_correct = group.record.responses[row].correct
    for (code, own, plain, string, tie), times in zip(table[starts].tolist(), lengths.tolist(), strict=True):
        reason = Reason(code=code, support=own, contained=plain, string=string, is_correct=is_correct, is_tie=bool(tie))
        yield reason, times


def words(group: ExplainedGroup, reason: Reason) -> str:
    """Why, in one or two sentences, ending in the multiplier."""
    if reason.support == reason.contained:
        return f"{_sentence(group, reason)}: {fraction(group, reason)}."
    plain = reason._replace(support=reason.contained)
    return (
        f"The authors' matching, greedy and with one place per response, {_found(group, reason)}: "
        f"{fraction(group, reason)}. The order-free rule would give {fraction(group, plain)}: "
        f"{_lowered(_sentence(group, plain))}."
    )


def fraction(group: ExplainedGroup, reason: Reason) -> str:
    """The multiplier as it comes about: 0, 1 or k/N."""
    if reason.support in (SHARED, 0):
        return "0" if reason.support == SHARED else "1"
    if reason.support == STRAY and group.why.options.outside == "keep":
        return "1"
    return f"{max(1, reason.support)}/{_class_size(group, reason.is_correct)}"


def multiplier(group: ExplainedGroup, reason: Reason) -> float:
    """The number that `fraction` writes."""
    numerator, _, denominator = fraction(group, reason).partition("/")
    return int(numerator) / int(denominator or 1)


def holders(group: ExplainedGroup, num_correct: int, num_incorrect: int) -> str:
    """Who has a string: 3 of 5 correct, 0 of 3 incorrect."""
    sizes = (_class_size(group, True), _class_size(group, False))
    return f"{num_correct} of {sizes[0]} correct, {num_incorrect} of {sizes[1]} incorrect"


def _sentence(group: ExplainedGroup, reason: Reason) -> str:
    options = group.why.options
    if reason.support == 0:
        return "Its entropy is above the threshold, and LESS leaves high-entropy tokens alone"
    if reason.support == STRAY:
        broken = reason.is_tie and options.membership == "lt"
        where = "equal to the threshold, which ends a run" if broken else f"in no run of {options.min_length} or more"
        share = "left alone (outside keep)" if options.outside == "keep" else _one_share(group, reason.is_correct)
        return f"Low entropy, but {where}, so {share}"
    held = _held(group, group.why.strings[reason.string], reason)
    return f"In a string of {len(group.why.strings[reason.string].token_ids)} tokens {held}"


def _held(group: ExplainedGroup, string: HeldString, reason: Reason) -> str:
    own, other = _name(reason.is_correct), _name(not reason.is_correct)
    sizes = _class_size(group, reason.is_correct), _class_size(group, not reason.is_correct)
    if reason.support == SHARED:
        return (
            f"held by {string.num_correct} of {_class_size(group, True)} correct and {string.num_incorrect} of "
            f"{_class_size(group, False)} incorrect rollouts, which does not tell right from wrong"
        )
    if reason.support == 1:
        return f"that no other rollout holds, so {_one_share(group, reason.is_correct)}"
    nobody = f"and by no {other} one" if sizes[1] else f"(the group has no {other} one)"
    return f"held by {reason.support} of {sizes[0]} {own} rollouts {nobody}"


def _found(group: ExplainedGroup, reason: Reason) -> str:
    if reason.support == SHARED:
        return "finds it in both classes"
    size = _class_size(group, reason.is_correct)
    if reason.support == 1:
        return "finds it in no other rollout"
    return f"finds it in {reason.support} of {size} {_name(reason.is_correct)} rollouts"


def _one_share(group: ExplainedGroup, is_correct: bool) -> str:
    size = _class_size(group, is_correct)
    name = _name(is_correct)
    return f"the share of the only {name} rollout" if size == 1 else f"one rollout's share of the {size} {name} ones"


def _class_size(group: ExplainedGroup, is_correct: bool) -> int:
    return int(np.count_nonzero(group.record.correct == is_correct))


def _name(is_correct: bool) -> str:
    return "correct" if is_correct else "incorrect"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
