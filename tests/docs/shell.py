"""Shell text of a page to the commands in it. Reads the shell as far as pages write it; knows no program.

`cd x && y`, pipes, comments, assignments, substitutions and here-documents are taken apart; a `$ ` prompt means that
the other lines are output. Options in brackets, as in `lessrl plan RECIPE [--json]`, count as given.
"""

import re
import shlex
from dataclasses import dataclass

SHELL_LANGUAGES = frozenset({"sh", "bash", "console", "shell"})
STARTS = re.compile(r"^(\$ |(lessrl|make|ray|python|pip|export|curl|kubectl|docker|sbatch|promtool|prometheus)\b)")

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_PLACEHOLDER = re.compile(r"<([A-Za-z][\w.-]*)>")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.DOTALL)
_BREAKS = {"&&", "||", "|", ";", "&", "(", ")", ";;", "|&"}
_REDIRECTIONS = {">", ">>", "<", ">&", "<&", "&>", ">|"}
_WRAPPERS = {"sudo", "exec", "nohup", "time", "env", "if", "then", "else", "elif", "do", "while", "until", "!", "{"}
_WORDLESS = {"fi", "done", "esac", "}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One simple command: its words, and what is assigned before it. `line` counts from 0 in its block."""

    line: int
    words: tuple[str, ...]
    assigned: tuple[tuple[str, str], ...] = ()


def is_shell(language: str, text: str) -> bool:
    """Whether a block holds commands: it says so, or says nothing and a line of it begins like one."""
    if language:
        return language in SHELL_LANGUAGES
    return any(STARTS.match(line) for line in text.splitlines())


def read_commands(text: str) -> list[Command]:
    """Every simple command.

    Raises:
        ValueError: a quotation that does not end.
    """
    found: list[Command] = []
    for number, line in _lines(text):
        for inner in _SUBSTITUTION.findall(line):
            found += _simple(number, inner)
        found += _simple(number, _SUBSTITUTION.sub("SUBSTITUTED", line))
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    """Lines that hold commands, continued ones joined, comments and here-documents gone."""
    is_session = any(line.startswith("$ ") for line in text.splitlines())
    lines, joined, first, end = [], "", 0, ""
    for number, raw in enumerate(text.splitlines()):
        if end:
            end = "" if raw.strip() == end else end
            continue
        line = raw
        if is_session and not joined:
            if not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        first = first if joined else number
        if (here := _HERE.search(line)) and "<<<" not in line:
            end, line = here.group(1), _HERE.sub("", line)
        line = _without_comment(line)
        if line.rstrip().endswith("\\"):
            joined += line.rstrip()[:-1] + " "
            continue
        lines.append((first, joined + line))
        joined = ""
    return [(number, line) for number, line in lines if line.strip()]


def _without_comment(line: str) -> str:
    for match in _COMMENT.finditer(line):
        before = line[: match.start()]
        if before.count("'") % 2 == 0 and before.count('"') % 2 == 0:
            return before
    return line


def _simple(number: int, line: str) -> list[Command]:
    lexer = shlex.shlex(
        _PLACEHOLDER.sub(lambda found: found.group(1).upper(), line), posix=True, punctuation_chars=True
    )
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[Command] = []
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:
            skip = False
        elif word in _REDIRECTIONS:
            skip = True
            if words and words[-1] in ("1", "2"):
                words.pop()
        elif word in _BREAKS:
            found += _command(number, words)
            words = []
        else:
            words.append(word)
    return found


def _command(number: int, words: list[str]) -> list[Command]:
    assigned = []
    while words and (words[0] in _WRAPPERS or _ASSIGNMENT.match(words[0])):
        if found := _ASSIGNMENT.match(words[0]):
            assigned.append((found.group(1), found.group(2)))
        words = words[1:]
    if words and words[0] == "export":
        assigned += [(found.group(1), found.group(2)) for word in words[1:] if (found := _ASSIGNMENT.match(word))]
        words = []
    if words and (words[0] in _WORDLESS or words[0] in ("for", "case")):
        words = []
    plain = [word.strip("[]") if word.startswith("[") or _opens_nothing(word) else word for word in words]
    plain = [word for word in plain if word and word != "..."]
    if not plain and not assigned:
        return []
    return [Command(line=number, words=tuple(plain), assigned=tuple(assigned))]


def _opens_nothing(word: str) -> bool:
    """Whether its last bracket closes one of an earlier word: `N]` of `[--runs N]`."""
    return word.endswith("]") and "[" not in word
