"""Answers as text: where the answer of a response is, and what makes two answers the same string.

Pure string work in time linear in the text, since a policy writes it. Knows no algebra; where these rules do not
decide, `shaping/rewards/math_answer.py` asks a computer algebra system.
"""

import re
from decimal import Decimal, InvalidOperation

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|[{}]")
_NUMBER = re.compile(r"(?:(?<![\w)\]}.])[-+])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?")
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d{1,3})?")

_REMOVED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:> ]|\\displaystyle|\\%|%|\\\$|\$|\^\{?\\circ\}?|\\limits|~"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textrm|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]frac")
_SHORT_FRACTION = re.compile(r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])(?![0-9a-zA-Z])")
_HALF_FRACTION = re.compile(r"\\frac\s*(?:([0-9a-zA-Z])\s*\{([^{}]*)\}|\{([^{}]*)\}\s*([0-9a-zA-Z]))")
_SLASH = re.compile(r"(-?)(\d+)/(\d+)")
_SHORT_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_ASSIGNMENT = re.compile(r"[a-zA-Z](?:_\{?\w+\}?)?=([^=]+)")


def last_boxed(text: str) -> str:
    """Contents of the last closed \\boxed{} or \\fbox{}, stripped; "" when there is none.

    Of nested boxes the innermost counts. A box that a truncated response left open does not.
    """
    open_braces: list[int] = []
    start, best = -1, ""
    for match in _BRACES.finditer(text):
        token = match.group()
        if token.endswith("{") and token != "\\{":
            open_braces.append(match.end() if len(token) > 1 else -1)
        elif token == "}" and open_braces:
            opened = open_braces.pop()
            if opened > start:
                start, best = opened, text[opened : match.start()].strip()
    return best


def last_number(text: str) -> str:
    """The last number in the text as written (sign, thousands commas, decimals, exponent); "" when there is none."""
    last = ""
    for match in _NUMBER.finditer(text):
        last = match.group() or last
    return last


def to_number(text: str) -> float | None:
    """A plain number as float; None for anything else, and for what a float cannot hold."""
    number = to_decimal(text)
    if number is None:
        return None
    value = float(number)
    return value if abs(value) != float("inf") else None


def to_decimal(text: str) -> Decimal | None:
    """A plain decimal number, exactly; None for anything else. Surrounding white space and `$` are ignored."""
    stripped = text.strip().strip("$").strip()
    if not any(character.isdigit() for character in stripped) or _PLAIN_NUMBER.fullmatch(stripped) is None:
        return None
    try:
        return Decimal(stripped.replace(",", ""))
    except InvalidOperation:
        return None


def normalise_answer(text: str) -> str:
    """An answer in a canonical spelling: two answers with one normal form are the same answer.

    Drops spaces, sizing, degree, percent and dollar signs, text wrappers and a final full stop; writes fractions and
    roots with braces; takes the right side of `x = ...`.
    Source: the MATH answer normalisation (Hendrycks et al. 2021), in the parts that keep the meaning.
    """
    result = _TEXT.sub(r"\1", _REMOVED.sub("", text.strip()))
    result = "".join(result.split()).removesuffix(".")
    result = _FRACTION.sub(r"\\frac", result)
    result = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", result)
    result = _HALF_FRACTION.sub(r"\\frac{\1\3}{\2\4}", result)
    result = _SHORT_ROOT.sub(r"\\sqrt{\1}", result)
    assignment = _ASSIGNMENT.fullmatch(result)
    result = assignment.group(1) if assignment else result
    slash = _SLASH.fullmatch(result)
    return f"{slash.group(1)}\\frac{{{slash.group(2)}}}{{{slash.group(3)}}}" if slash else result
