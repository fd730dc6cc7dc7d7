"""The garbage collector's settings are those of before once the block is left, however it is left."""

import gc

import pytest

from services.collector import THRESHOLDS, collected_rarely


def test_settings_hold_inside_and_are_put_back_outside() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(ValueError, match="left"), collected_rarely():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > frozen
        raise ValueError("left")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
