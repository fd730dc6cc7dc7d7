"""Law of the comparison that remembers: it says what comparing token by token says, whatever the hashes did."""

import numpy as np
import pytest

from shaping.kernels.compiled.strings import occurs


@pytest.mark.parametrize("seed", range(30))
def test_a_string_occurs_exactly_where_its_tokens_stand(seed: int) -> None:
    # Loops of short periods with a token changed here and there: strings overlap themselves, nearly or really.
    rng = np.random.default_rng(seed)
    loop = np.resize(rng.integers(0, 2, rng.integers(1, 9)), 600)
    tokens = np.where(rng.random(600) < 0.005, 2, loop).astype(np.int32)
    length = int(rng.integers(64, 120))
    seen = np.full((1, 2), -1, np.int64)
    found = [occurs(tokens, 0, length, t, 0, seen) for t in range(len(tokens) - length + 1)]
    wanted = [np.array_equal(tokens[t : t + length], tokens[:length]) for t in range(len(tokens) - length + 1)]
    assert found == wanted
