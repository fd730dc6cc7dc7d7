"""Colours: Okabe and Ito's, told apart by colour-blind readers, and those of the classes as on the page."""

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#8A8A8A",
)
CLEAR = "transparent"

SEGMENTS = {"correct_only": GREEN, "incorrect_only": VERMILION, "shared": GREY, "unique": ORANGE}
"""By class of a low-entropy segment."""

TOKENS = {**SEGMENTS, "outside": SKY}
"""By class of a token's segment; outside is in none."""

VERDICTS = {"correct": GREEN, "incorrect": VERMILION}
OUTCOMES = {"all_correct": GREEN, "mixed": BLUE, "all_incorrect": VERMILION}
ENTROPY_CLASSES = {"low": SKY, "high": PURPLE}
PAIRS = {
    "correct_correct": GREEN,
    "correct_incorrect": ORANGE,
    "incorrect_correct": PURPLE,
    "incorrect_incorrect": VERMILION,
}
DIRECTIONS = {"up": GREEN, "down": VERMILION, "unchanged": GREY}
STAGES = {"base": GREY, "shaped": GREEN}
