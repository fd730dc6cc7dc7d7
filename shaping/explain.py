"""Why LESS gave each token of a group its multiplier: the token's class, the string that covers it, and who holds it.

Flow: responses, entropies, correctness -> `less.analyze` -> `GroupExplanation`. The covering strings are searched here
a second time, plainly, over the segments that the kernels found; what the kernels count and what is found here must
agree, and a test says so. Knows no files, no words and no advantages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray, split_rows
from shaping.less import LessAnalysis, LessOptions, analyze
from shaping.support import SHARED, STRAY, Segments, class_sizes


class TokenClass(StrEnum):
    """What decided a token: the best string that covers it, no string at all, or an entropy above the threshold."""

    CORRECT_ONLY = "correct_only"
    INCORRECT_ONLY = "incorrect_only"
    SHARED = "shared"
    UNIQUE = "unique"
    STRAY = "stray"
    HIGH = "high"


TOKEN_CLASSES = tuple(TokenClass)
"""Order of the codes in `GroupExplanation.class_codes`; the first four are those of `SEGMENT_CLASSES`."""

_STRAY_CODE, _HIGH_CODE = TOKEN_CLASSES.index(TokenClass.STRAY), TOKEN_CLASSES.index(TokenClass.HIGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldString:
    """A low-entropy token string and every place inside a segment where a rollout has it.

    Args:
        token_ids: [L] int32.
        places: [P, 2] int32, rollout and first token, ordered by rollout and then by position.
        num_correct, num_incorrect: rollouts of each class that have it.
    """

    token_ids: IntArray
    places: NDArray[np.int32]
    num_correct: int
    num_incorrect: int

    @property
    def is_shared(self) -> bool:
        return self.num_correct > 0 and self.num_incorrect > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupExplanation:
    """One group of G responses, token by token. Every tuple has G arrays [T].

    Args:
        options: what LESS was run with.
        analysis: what LESS found.
        class_codes: uint8, index into `TOKEN_CLASSES`; of the mode's own supports.
        supports: int32, see `GroupSupport.token_support`; in mode "compat" read back from its multipliers.
        segment_indices: int32, index into `analysis.support.segments`; -1 outside of segments.
        string_indices: int32, index into `strings` of the string that decides the token: one that both classes hold if
            there is any, else the one that most rollouts of the token's class hold, the longest of them; -1 outside. By
            containment in either mode.
        containment: float32, multipliers of the order-free rule; those of the analysis in mode "containment".
        strings: the strings that decide at least one token.
    """

    options: LessOptions
    analysis: LessAnalysis
    class_codes: tuple[NDArray[np.uint8], ...]
    supports: tuple[IntArray, ...]
    segment_indices: tuple[IntArray, ...]
    string_indices: tuple[IntArray, ...]
    containment: tuple[FloatArray, ...]
    strings: tuple[HeldString, ...]


def explain_group(
    responses: Sequence[IntArray], entropies: Sequence[FloatArray], correct: BoolArray, options: LessOptions
) -> GroupExplanation:
    """Explain one group.

    Args:
        responses: G arrays [T] int32.
        entropies: G arrays [T] float32 nats.
        correct: [G] bool.
    Raises:
        ValueError: as `shaping.less.multipliers`.
    """
    analysis = analyze(responses, entropies, correct, options)
    is_compat = options.mode == "compat"
    order_free = analyze(responses, entropies, correct, replace(options, mode="containment")) if is_compat else analysis
    support, lengths = analysis.support, [len(row) for row in responses]
    found = _held_strings(responses, support.segments, correct, options)
    strings, deciding = _deciding_strings(found, lengths, correct)
    sizes = class_sizes(correct).tolist()
    contained = split_rows(support.token_support, lengths)
    supports = tuple(
        _supports_of(row, multipliers, size) if is_compat else row
        for row, multipliers, size in zip(contained, analysis.multipliers, sizes, strict=True)
    )
    return GroupExplanation(
        options=options,
        analysis=analysis,
        class_codes=tuple(_class_codes(row, bool(flag)) for row, flag in zip(supports, correct, strict=True)),
        supports=supports,
        segment_indices=_segment_indices(support.segments, lengths),
        string_indices=deciding,
        containment=tuple(order_free.multipliers),
        strings=strings,
    )


def _supports_of(contained: IntArray, multipliers: FloatArray, class_size: int) -> IntArray:
    """Supports that the multipliers of tokens in segments stand for; the other tokens are the same in both modes."""
    held = np.rint(multipliers * class_size).astype(np.int32)
    held[multipliers == 0] = SHARED
    return np.where((contained == 0) | (contained == STRAY), contained, held)


def _class_codes(supports: IntArray, is_correct: bool) -> NDArray[np.uint8]:
    own = TokenClass.CORRECT_ONLY if is_correct else TokenClass.INCORRECT_ONLY
    codes = np.full(len(supports), TOKEN_CLASSES.index(own), np.uint8)
    codes[supports == 1] = TOKEN_CLASSES.index(TokenClass.UNIQUE)
    codes[supports == 0] = _HIGH_CODE
    codes[supports == STRAY] = _STRAY_CODE
    codes[supports == SHARED] = TOKEN_CLASSES.index(TokenClass.SHARED)
    return codes


def _segment_indices(segments: Segments, lengths: list[int]) -> tuple[IntArray, ...]:
    rows = [np.full(length, -1, np.int32) for length in lengths]
    for index, (row, start, stop) in enumerate(_spans(segments)):
        rows[row][start:stop] = index
    return tuple(rows)


def _spans(segments: Segments) -> list[tuple[int, int, int]]:
    """Rollout, start and stop of each segment."""
    columns = (segments.rows, segments.starts, segments.stops)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _held_strings(
    responses: Sequence[IntArray], segments: Segments, correct: BoolArray, options: LessOptions
) -> list[HeldString]:
    """Every distinct string of the match rule with all its places, in the order in which they first occur."""
    spans, width, is_correct = _spans(segments), options.min_length, correct.tolist()
    texts = [np.ascontiguousarray(row, np.int32).tobytes() for row in responses]
    # Every place inside a segment, by the first min_length tokens that stand there: no string is shorter.
    heads: dict[bytes, list[tuple[int, int, int]]] = {}
    for row, start, stop in spans:
        for position in range(start, stop - width + 1):
            heads.setdefault(texts[row][4 * position : 4 * (position + width)], []).append((row, position, stop))
    if options.match == "kgram":
        wanted = list(heads)
    else:
        wanted = list(dict.fromkeys(texts[row][4 * start : 4 * stop] for row, start, stop in spans))
    strings = []
    for text in wanted:
        length = len(text) // 4
        places = [
            (row, position)
            for row, position, stop in heads[text[: 4 * width]]
            if position + length <= stop and texts[row].startswith(text, 4 * position)
        ]
        holders = {row for row, _ in places}
        num_correct = sum(is_correct[row] for row in holders)
        strings.append(
            HeldString(
                token_ids=np.frombuffer(text, np.int32),
                places=np.array(places, np.int32),
                num_correct=num_correct,
                num_incorrect=len(holders) - num_correct,
            )
        )
    return strings


def _deciding_strings(
    strings: list[HeldString], lengths: list[int], correct: BoolArray
) -> tuple[tuple[HeldString, ...], tuple[IntArray, ...]]:
    """The strings that decide a token, and for every token the index of its own among them."""
    longest = max(lengths, default=0) + 1
    ranks = [np.full(length, -1, np.int64) for length in lengths]
    chosen = [np.full(length, -1, np.int32) for length in lengths]
    for index, string in enumerate(strings):
        # A string that both classes hold beats any other; then the number of holders, all of one class; then length.
        holders = len(correct) + 1 if string.is_shared else string.num_correct + string.num_incorrect
        length = len(string.token_ids)
        rank = holders * longest + length
        for row, start in string.places.tolist():
            better = ranks[row][start : start + length] < rank
            ranks[row][start : start + length][better] = rank
            chosen[row][start : start + length][better] = index
    used = sorted({int(index) for row in chosen for index in np.unique(row)} - {-1})
    renumbered = np.full(len(strings) + 1, -1, np.int32)
    renumbered[used] = np.arange(len(used), dtype=np.int32)
    return tuple(strings[index] for index in used), tuple(renumbered[row] for row in chosen)
