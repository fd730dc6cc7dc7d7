"""Where the answer of a text is: in its last box, where it announces one, or at its end.

From a response or a reference to the answer as written. Knows nothing of what the answer means.
"""

import re
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
# In \\} the first backslash escapes the second: a new line, then a brace.
_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\\\(?!boxed|fbox|framebox)|\\[{}]|[{}]")
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])[-+\u2212])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
_CONJUNCTION = r"(?:,|;|&|(?:,\s*)?(?:\\text\s*\{\s*)?(?:and|or)(?:\s*\})?)"
# Two boxes with no more than this between them are one answer in two parts.
_BETWEEN_BOXES = re.compile(rf"[\s$.]*{_CONJUNCTION}[\s$]*(?:[A-Za-z]\s*=\s*)?")
_BETWEEN_PARTS = re.compile(rf"\s*{_CONJUNCTION}\s*")
_MAX_BETWEEN_BOXES = 40

_HASHES = "####"
_BEHIND_HASHES = re.compile(r"####([^\n]*)")
_ANSWER_TAG, _ANSWER_END = "<answer>", "</answer>"
# A caret, or two stars that are no bold print (10**5, but "in **42** ways" and "**Answer** 42"), a root, a fraction.
_IN_A_TERM = re.compile(r"(?:\^[\s{(]{0,4}|[\d)\]]\*\*[({]{0,2}|[\d)\]] \*\* [({]?|\\sqrt\{|frac\{|\}\{)$")
# In a response of many parts #### is a heading of Markdown: "#### Step 2", "#### 3. Solve".
_HEADING = re.compile(r"\d+[.)]\s|[A-Za-z]{3}")
_ANNOUNCED = re.compile(
    r"\banswers?\b\W{0,4}?(?:[a-z]{1,20} ){0,6}?(?:(?:is|are)\b(?!\s+not\b)|=|:)\W{0,4}?(?=[\s$\\\w(\[{.+-])",
    re.IGNORECASE,
)
# An escaped dollar sign is money, in a formula or out of it.
_MATHS = re.compile(
    r"(?<!\\)\$\$?((?:[^$\\]|\\.){1,400})(?<!\\)\$|\\\(([^\n]{1,400}?)\\\)|\\\[(.{1,400}?)\\\]", re.DOTALL
)
# Also a token that ends a turn and was left in the text.
_SENTENCE_END = re.compile(r"(?<!\\)[.!?](?:\s|$)|\n|<[|/]")
# What explains an answer rather than being part of it: "42, which is even", "42 (from step 3)", "3/4 of an hour".
_AFTERTHOUGHT = re.compile(
    r"[\s,;](?:because|since|which|as)\s|(?<=\d)\s(?:of\s|\([A-Za-z]{2}|[-\u2013\u2014]\s[A-Za-z]{2})"
    r"|[,;]\s(?!(?:and|or)\s)[A-Za-z]{3}"
)
_BULLET = re.compile(r"\s*\n\s*(?:[->]|\d{1,2}[.)])\s+")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LEADING_WORDS = re.compile(r"(?:[A-Za-z]{3,20}\s+){1,6}(?=[-+\d\\$(.])|(?:option|choice)\s+(?=[A-J]\b)", re.IGNORECASE)
_PROSE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_WORD = re.compile(r"\w")
# Between two amounts of money stands no formula: $18 - $2.
_COMPLETE = re.compile(r"\w[^-+=/*\w]*$")
_MARKS = " \t\r\n*_:`"
# The end of a proof, and the exponent of a unit (25 cm$^2$), which are formulas and no answers.
_NO_FORMULA = re.compile(r"(?:\$|\\\()?\\(?:blacksquare|square|Box|qed)(?:\$|\\\))?\.?\s*$|\$\s*\^[^$]{1,12}\$")
_QUANTIFIED = re.compile(r"\bfor (?:all|any|every|each|some)\b")
# "3 1/2" and "3:4" are one number each where they end a text.
_FRACTION_BEFORE = re.compile(r"(?<![\w.])(?:\d{1,9} )?\d{1,9}[/:]$")
_NAMED = re.compile(r"\s*([A-Za-z](?:_\w)?)\s*=")
_THOUGHT_END = "</think>"
_MAX_STATEMENT = 60
_MAX_TAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A closed box: where it begins and ends in the text, and what is in it."""

    start: int
    stop: int
    content: str


def last_boxed(text: str) -> str:
    """Contents of the last closed \\boxed{}, \\fbox{} or \\framebox{}, stripped; "" when there is none.

    Of nested boxes the innermost counts. A box that a truncated response left open does not.
    """
    boxes = closed_boxes(text)
    return boxes[-1].content if boxes else ""


def boxed_answer(text: str) -> str:
    """Like `last_boxed`, but boxes that only a comma, "and" or "or" divides are one answer: "3, 5"."""
    boxes = closed_boxes(text)
    if not boxes:
        return ""
    first = len(boxes) - 1
    while first and _are_one_answer(text, boxes[first - 1], boxes[first]):
        first -= 1
    return ", ".join(dict.fromkeys(box.content for box in boxes[first:]))


def has_box(text: str) -> bool:
    """Whether a box was begun, closed or not."""
    return _BOX.search(text) is not None


def closed_boxes(text: str) -> list[Box]:
    """All closed boxes that hold no other closed box, in the order in which they begin."""
    first = _BOX.search(text)
    if first is None:
        return []
    open_braces: list[tuple[int, int] | None] = []
    boxes: list[Box] = []
    for match in _BRACES.finditer(text, first.start()):
        token = match.group()
        if token.endswith("{") and token != "\\{":
            open_braces.append(match.span() if len(token) > 1 else None)
        elif token == "}" and open_braces:
            opened = open_braces.pop()
            if opened and not (boxes and boxes[-1].start > opened[0]):
                boxes.append(Box(start=opened[0], stop=match.end(), content=text[opened[1] : match.start()].strip()))
    return boxes


def _are_one_answer(text: str, left: Box, right: Box) -> bool:
    between = text[left.stop : right.start]
    return len(between) <= _MAX_BETWEEN_BOXES and _BETWEEN_BOXES.fullmatch(between) is not None


def last_number(text: str) -> str:
    """The last number in the text as written (sign, thousands commas, decimals, exponent); "" when there is none."""
    number = _last_match(_NUMBER, text)
    return number.group() if number else ""


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = deque(pattern.finditer(text), maxlen=1)
    return matches[0] if matches else None


def last_answer(text: str) -> str:
    """The answer of a text without a box; "" when there is none.

    What stands in the last <answer> tag, else what follows the last `####`, else the last "answer is" or "answer:",
    else the last formula of the final sentence if it reads like an answer, else the last number outside a term.
    What was thought before `</think>` counts only where nothing follows it.
    """
    text = text.rpartition(_THOUGHT_END)[2].strip() or text
    _, tag, tagged = text.rpartition(_ANSWER_TAG)
    if tag:
        inside = tagged.partition(_ANSWER_END)[0]
        announced = _last_match(_ANNOUNCED, inside)
        return _stated(inside[announced.end() :] if announced else inside)
    _, hashes, behind = text.rpartition(_HASHES)
    marked = behind.strip(_MARKS).partition("\n")[0].strip(_MARKS) if hashes else ""
    if marked and not _HEADING.match(_COMMAND.sub("", marked)):
        return marked
    announced = _last_match(_ANNOUNCED, text)
    if announced:
        answer = _stated(text[announced.end() : announced.end() + _MAX_TAIL])
        if answer:
            return answer
    return _formula_at_the_end(text) or _final_number(_NO_FORMULA.sub("", text)) or marked


def announced_answers(text: str) -> tuple[str, ...]:
    """Every answer that a text announces, right or not: in closed boxes, behind `####`, after "answer is" or "answer:".

    A number or formula that nothing announces is none.
    """
    behind_hashes = (line.strip(_MARKS) for line in _BEHIND_HASHES.findall(text))
    announced = (_stated(text[match.end() : match.end() + _MAX_TAIL]) for match in _ANNOUNCED.finditer(text))
    boxed = (box.content for box in closed_boxes(text))
    return tuple(answer for answer in (*boxed, *behind_hashes, *announced) if answer)


def _final_number(text: str) -> str:
    """The last number, unless it is part of a term that no formula marks: that of 10^{10^5} is not 5."""
    number = _last_match(_NUMBER, text)
    if number is None or _IN_A_TERM.search(text[max(0, number.start() - 6) : number.start()]):
        return ""
    fraction = _FRACTION_BEFORE.search(text[max(0, number.start() - 21) : number.start()])
    return (fraction.group() if fraction else "") + number.group()


def _stated(text: str) -> str:
    """The answer that begins the text: its first formulas, a short statement as it is, or its first number."""
    bullet = _BULLET.match(text)
    text = text[bullet.end() :] if bullet else text
    displayed = _MATHS.match(text.strip(_MARKS))
    if displayed and "\n" in displayed.group() and not _is_prose(_content(displayed)):
        return _content(displayed)
    sentence = _SENTENCE_END.split(text.strip(_MARKS), maxsplit=1)[0].strip(_MARKS)
    formulas = [match for match in _MATHS.finditer(sentence) if _COMPLETE.search(_content(match))]
    before = _AFTERTHOUGHT.split(sentence, maxsplit=1)[0].strip(_MARKS)
    if not formulas or formulas[0].start() >= len(before):
        sentence, formulas = before, []
    if formulas and not _PROSE.search(sentence[: formulas[0].start()]):
        num_parts = 1
        for left, right in pairwise(formulas):
            if not _BETWEEN_PARTS.fullmatch(sentence[left.end() : right.start()]):
                break
            num_parts += 1
        return ", ".join(_content(formula) for formula in formulas[:num_parts])
    leading = _LEADING_WORDS.match(sentence)
    sentence = sentence[leading.end() :] if leading else sentence
    if (len(sentence) <= _MAX_STATEMENT or not _is_prose(sentence)) and _WORD.search(sentence):
        return sentence
    number = _NUMBER.search(sentence)
    return number.group() if number else ""


def _formula_at_the_end(text: str) -> str:
    """The last formula of the last line, or the display that ends the text; of `$x=1$ or $x=2$` both."""
    tail = _NO_FORMULA.sub("", text[-_MAX_TAIL:]).rstrip(" \t\r\n.")
    last_line = tail[tail.rfind("\n") + 1 :]
    quantified = _QUANTIFIED.split(last_line, maxsplit=1)[0]
    formulas = list(_MATHS.finditer(quantified)) or list(_MATHS.finditer(last_line))
    if not formulas:
        formulas = [match for match in _MATHS.finditer(tail) if not tail[match.end() :].strip("$")]
        last_line = quantified = tail
    if not formulas or (quantified == last_line and _NUMBER.search(last_line, formulas[-1].end())):
        return ""
    first = len(formulas) - 1
    while first and _are_alternatives(quantified, formulas[first - 1], formulas[first]):
        first -= 1
    parts = [_content(formula).rstrip(" .") for formula in formulas[first:]]
    return "" if any(_is_prose(part) for part in parts) else ", ".join(parts)


def _are_alternatives(text: str, left: re.Match[str], right: re.Match[str]) -> bool:
    """Whether nothing but a conjunction stands between two formulas, and both give the same name, or none."""
    if not _BETWEEN_PARTS.fullmatch(text[left.end() : right.start()]):
        return False
    one, other = _NAMED.match(_content(left)), _NAMED.match(_content(right))
    return (one and one.group(1)) == (other and other.group(1))


def _is_prose(text: str) -> bool:
    return _PROSE.search(_COMMAND.sub("", text)) is not None


def _content(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()
