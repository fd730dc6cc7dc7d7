"""A file has one subject and a function one thought: no file over 400 lines, no function over 60, no import inside."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("services", "rollout", "learner", "shaping", "dashboards", "deploy", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (ROOT / folder).rglob("*.py")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_longer_than_a_reader_holds() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    assert lengths, "the source folders moved"
    assert [(str(path.relative_to(ROOT)), n) for path, n in lengths.items() if n > MAX_FILE_LINES] == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        (str(path.relative_to(ROOT)), each.name)
        for path in sources()
        for each in functions(path)
        if (each.end_lineno or each.lineno) - each.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_imports_stand_on_top() -> None:
    inside = [
        (str(path.relative_to(ROOT)), each.name)
        for path in sources()
        for each in functions(path)
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(each))
    ]
    assert inside == []
