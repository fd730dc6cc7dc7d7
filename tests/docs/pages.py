"""The Markdown pages of the project, taken apart: fenced blocks, code spans, links, and what a link can point at.

Pages -> Block, Span and Link, each with its line. Knows Markdown as far as these pages use it, and not what is true.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "deploy", "dashboards")

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)(?P<rest>.*)$")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)")
_HTML = re.compile(r"<(?:a|img|source)\b[^>]*\b(?:href|src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$")
_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `line` is that of its first line of text, counted from 1."""

    page: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Inline code, or the target of a link."""

    page: Path
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and its text, which a test may also make up."""

    path: Path
    text: str

    def blocks(self) -> list[Block]:
        """Fenced blocks in order.

        Raises:
            ValueError: a fence that is never closed.
        """
        return [each for each in self._parts() if isinstance(each, Block)]

    def prose(self) -> list[Span]:
        """Lines outside fences."""
        return [each for each in self._parts() if isinstance(each, Span)]

    def spans(self) -> list[Span]:
        """Inline code."""
        return [
            Span(page=self.path, line=each.line, text=text)
            for each in self.prose()
            for text in _SPAN.findall(each.text)
        ]

    def links(self) -> list[Span]:
        """Targets of links and pictures, code spans left out."""
        found = []
        for each in self.prose():
            bare = _SPAN.sub("``", each.text)
            targets = [*_LINK.findall(bare), *_REFERENCE.findall(bare), *_HTML.findall(bare)]
            found += [Span(page=self.path, line=each.line, text=target) for target in targets]
        return found

    def anchors(self) -> set[str]:
        """What `#...` can name: headings as GitHub writes them, repeated ones numbered, and named anchors."""
        found: set[str] = set()
        for each in self.prose():
            found.update(_ANCHOR.findall(each.text))
            if heading := _HEADING.match(each.text):
                base = slug(heading.group(1))
                number = 0
                name = base
                while name in found:
                    number += 1
                    name = f"{base}-{number}"
                found.add(name)
        return found

    def _parts(self) -> Iterator[Block | Span]:
        opened: re.Match[str] | None = None
        lines: list[str] = []
        first = 0
        for number, line in enumerate(self.text.splitlines(), start=1):
            fence = _FENCE.match(line)
            if opened is None and fence:
                opened, lines, first = fence, [], number + 1
            elif opened is None:
                yield Span(page=self.path, line=number, text=line)
            elif fence and len(fence["ticks"]) >= len(opened["ticks"]) and not fence["language"]:
                yield Block(page=self.path, line=first, language=opened["language"], text="\n".join(lines) + "\n")
                opened = None
            else:
                lines.append(line.removeprefix(opened["indent"]))
        if opened:
            raise ValueError(f"a fence must be closed, found one open from line {first - 1} ({self.path})")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, punctuation left out, spaces to hyphens."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def all_pages() -> list[Page]:
    """Every Markdown page that is written for readers."""
    paths = sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        paths += sorted((ROOT / folder).rglob("*.md"))
    return [Page(path=path, text=path.read_text(encoding="utf-8")) for path in paths]


def place(part: Block | Span, offset: int = 0) -> str:
    """Where a part stands, for messages."""
    path = part.page.relative_to(ROOT) if part.page.is_relative_to(ROOT) else part.page
    return f"{path}:{part.line + offset}"
