"""Contrast of two colours as WCAG 2 defines it, computed here from the formula and nothing else."""

from collections.abc import Sequence

Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""


def over(top: Sequence[float], alpha: float, bottom: Colour) -> Colour:
    """A see-through colour on another one."""
    red, green, blue = (alpha * each + (1 - alpha) * below for each, below in zip(top, bottom, strict=True))
    return red, green, blue


def contrast(first: Colour, second: Colour) -> float:
    """From 1 to 21; text needs 4.5, large text and marks 3 (level AA)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def of_hex(text: str) -> Colour:
    """#rrggbb."""
    red, green, blue = (int(text[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (_linear(each / 255) for each in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(share: float) -> float:
    return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)
