"""Why a token got its multiplier: what the plain search finds is what the kernels counted."""

import numpy as np
import pytest

from shaping.explain import TOKEN_CLASSES, TokenClass, explain_group
from shaping.less import LessOptions
from shaping.support import SHARED, STRAY


def random_group(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Small alphabets and few entropies: nested, periodic and tied strings, and empty responses and classes."""
    size = int(rng.integers(1, 7))
    responses = [rng.integers(0, 3, int(rng.integers(0, 25))).astype(np.int32) for _ in range(size)]
    entropies = [rng.integers(0, 6, len(row)).astype(np.float32) for row in responses]
    return responses, entropies, rng.random(size) < 0.5


def ids(text: str) -> np.ndarray:
    return np.array([ord(char) for char in text], np.int32)


def nats(text: str) -> np.ndarray:
    """1 for spaces, 0 elsewhere: low runs are words where words are most of the text."""
    return np.array([1.0 if char == " " else 0.0 for char in text], np.float32)


@pytest.mark.parametrize("match", ["segment", "kgram"])
@pytest.mark.parametrize("membership", ["lt", "le"])
@pytest.mark.parametrize("scope", ["response", "group"])
def test_every_token_is_decided_by_a_string_that_gives_its_multiplier(match: str, membership: str, scope: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        responses, entropies, correct = random_group(rng)
        options = LessOptions(
            min_length=int(rng.integers(1, 4)),
            match=match,  # type: ignore[arg-type]
            membership=membership,  # type: ignore[arg-type]
            scope=scope,  # type: ignore[arg-type]
            backend="numpy",
        )
        found = explain_group(responses, entropies, correct, options)
        for row, response in enumerate(responses):
            assert np.array_equal(found.containment[row], found.analysis.multipliers[row])
            for at in range(len(response)):
                support, index = int(found.supports[row][at]), int(found.string_indices[row][at])
                if support in (0, STRAY):
                    assert index == -1 and found.segment_indices[row][at] == -1
                    continue
                string = found.strings[index]
                assert string.is_shared is (support == SHARED)
                assert support == SHARED or string.num_correct + string.num_incorrect == support
                starts = string.places[string.places[:, 0] == row][:, 1]
                assert any(start <= at < start + len(string.token_ids) for start in starts)


def test_places_are_inside_segments_and_hold_the_string() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        responses, entropies, correct = random_group(rng)
        found = explain_group(responses, entropies, correct, LessOptions(min_length=2, backend="numpy"))
        for string in found.strings:
            rows = set(string.places[:, 0].tolist())
            assert string.num_correct == sum(bool(correct[row]) for row in rows)
            assert string.num_incorrect == len(rows) - string.num_correct
            for row, start in string.places.tolist():
                stop = start + len(string.token_ids)
                assert np.array_equal(responses[row][start:stop], string.token_ids)
                segment = found.segment_indices[row][start]
                assert segment >= 0 and (found.segment_indices[row][start:stop] == segment).all()


def test_a_segment_covers_exactly_its_tokens() -> None:
    text = "abcde fghij "
    found = explain_group([ids(text)], [nats(text)], np.array([True]), LessOptions(backend="numpy"))
    # Of twelve entropies the 11th smallest is the threshold: that of a space, which ends a run.
    assert found.segment_indices[0].tolist() == [0] * 5 + [-1] + [1] * 5 + [-1]


def test_the_longest_of_equally_held_strings_decides() -> None:
    # Both correct rollouts hold "abc" and "abcd": the longer one tells more.
    texts = ("abcd xyz", "abcd uvw", "abc  rst")
    options = LessOptions(min_length=3, membership="le", quantile=0.6, backend="numpy")
    found = explain_group(
        [ids(text) for text in texts], [nats(text) for text in texts], np.array([True, True, True]), options
    )
    lengths = [len(found.strings[index].token_ids) for index in found.string_indices[0][:4]]
    # "abc" is held by all three, so it decides its own tokens; "d" is left to the longer string.
    assert lengths == [3, 3, 3, 4]
    assert found.supports[0][:4].tolist() == [3, 3, 3, 2]


def test_of_strings_with_as_many_holders_the_longest_decides() -> None:
    # "abc" is a segment of rollout 1, and both hold it wherever they hold "abcd".
    texts = ("abcd wxyz", "abcd abc ")
    options = LessOptions(min_length=3, membership="le", quantile=0.7, backend="numpy")
    found = explain_group(
        [ids(text) for text in texts], [nats(text) for text in texts], np.array([True, True]), options
    )
    lengths = [len(found.strings[index].token_ids) if index >= 0 else 0 for index in found.string_indices[1]]
    assert lengths == [4, 4, 4, 4, 0, 3, 3, 3, 0]


def test_compat_tells_what_its_matching_found_beside_what_containment_sees() -> None:
    # The first container of "abcde" is in the correct rollout 1: compat never sees that incorrect rollout 2 has it too.
    texts = ("abcde 1", "vabcdew 2", "yabcdez 3")
    options = LessOptions(membership="le", quantile=0.6, mode="compat", backend="numpy")
    found = explain_group(
        [ids(text) for text in texts], [nats(text) for text in texts], np.array([True, True, False]), options
    )
    assert found.supports[0][:5].tolist() == [2] * 5
    assert found.analysis.multipliers[0][:5].tolist() == [1.0] * 5
    assert found.containment[0][:5].tolist() == [0.0] * 5
    assert TOKEN_CLASSES[found.class_codes[0][0]] is TokenClass.CORRECT_ONLY
    # Without rollout 1 its first container is in the incorrect one.
    both = explain_group(
        [ids(texts[0]), ids(texts[2])], [nats(texts[0]), nats(texts[2])], np.array([True, False]), options
    )
    assert both.supports[0][:5].tolist() == [SHARED] * 5
    assert TOKEN_CLASSES[both.class_codes[0][0]] is TokenClass.SHARED
    assert found.strings[found.string_indices[0][0]].is_shared
