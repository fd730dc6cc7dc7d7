"""Keys: what is done at once, and what is asked for first."""

import pytest

from services.top.keys import QUIT, Keys

ALLOWED = ("pause", "cancel")


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_leaving_needs_no_second_word(key: str) -> None:
    assert Keys().press(key, ALLOWED) == QUIT


def test_pause_is_done_after_a_yes() -> None:
    keys = Keys()
    assert keys.press("p", ALLOWED) == ""
    assert keys.question == "pause this run? y/n"
    assert keys.press("y", ALLOWED) == "pause"
    assert keys.question == ""


@pytest.mark.parametrize("key", ["n", "p", "q", " ", "\n"])
def test_any_other_key_is_a_no(key: str) -> None:
    keys = Keys()
    keys.press("p", ALLOWED)
    assert keys.press(key, ALLOWED) == ""
    assert keys.said == "pause: left as it is" and keys.question == ""
    # A yes that comes too late means nothing.
    assert keys.press("y", ALLOWED) == ""


def test_what_the_state_does_not_allow_is_not_asked() -> None:
    keys = Keys()
    assert keys.press("r", ALLOWED) == ""
    assert (keys.question, keys.said) == ("", "resume: the run's state does not allow it")
    assert keys.press("r", ("resume",)) == "" and keys.press("Y", ()) == "resume"


@pytest.mark.parametrize("key", ["x", "y", "\t", "7"])
def test_other_keys_do_nothing(key: str) -> None:
    keys = Keys()
    assert (keys.press(key, ALLOWED), keys.question, keys.said) == ("", "", "")
