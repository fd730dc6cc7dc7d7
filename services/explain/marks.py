"""How a token's class is shown: name, colour and a mark that needs no colour; and token text made safe to print."""

from dataclasses import dataclass

from shaping.explain import TokenClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Signs of one class.

    Args:
        sign, ascii_sign: one cell each; the first four are those of the live view of a run.
        color: of rich.
        meaning: which tokens these are.
        factor: their multiplier, N rollouts of the token's own class, k of them with the string.
    """

    name: str
    sign: str
    ascii_sign: str
    color: str
    meaning: str
    factor: str

    def on(self, *, is_ascii: bool) -> str:
        return self.ascii_sign if is_ascii else self.sign


MARKS = {
    TokenClass.SHARED: Mark(
        name="shared",
        sign="\u2591",
        ascii_sign="=",
        color="bright_black",
        meaning="a string that both classes have",
        factor="0",
    ),
    TokenClass.CORRECT_ONLY: Mark(
        name="correct-only",
        sign="\u2588",
        ascii_sign="#",
        color="green",
        meaning="a string of several correct rollouts",
        factor="k/N",
    ),
    TokenClass.INCORRECT_ONLY: Mark(
        name="incorrect-only",
        sign="\u2592",
        ascii_sign="%",
        color="red",
        meaning="a string of several incorrect rollouts",
        factor="k/N",
    ),
    TokenClass.UNIQUE: Mark(
        name="unique",
        sign="\u00b7",
        ascii_sign=".",
        color="yellow",
        meaning="a string of one rollout alone",
        factor="1/N",
    ),
    TokenClass.STRAY: Mark(
        name="stray", sign="-", ascii_sign="-", color="cyan", meaning="low entropy, in no segment", factor="1/N"
    ),
    TokenClass.HIGH: Mark(
        name="high-entropy",
        sign="^",
        ascii_sign="^",
        color="magenta",
        meaning="entropy above the threshold",
        factor="1",
    ),
}
"""In the order in which they are shown."""

CORRECT_SIGNS = {True: ("\u2713", "+"), False: ("\u2717", "x")}


def verdict_sign(is_correct: bool, *, is_ascii: bool) -> str:
    return CORRECT_SIGNS[is_correct][is_ascii]


def visible(text: str, *, is_ascii: bool) -> str:
    """Text without control characters: what a model wrote must not steer the terminal. Spaces stay."""
    return "".join(_visible(char, is_ascii) for char in text)


def _visible(char: str, is_ascii: bool) -> str:
    if char == "\n":
        return "\\n" if is_ascii else "\u21b5"
    if is_ascii and not char.isascii():
        return "?"
    return char if char.isprintable() else char.encode("unicode_escape").decode()
