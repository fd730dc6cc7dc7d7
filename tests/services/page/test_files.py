"""The files of the page: all that they ask for is served, and nothing in them can become markup or code."""

import re
from pathlib import Path

import pytest

from services.page.files import PAGE_POLICY, PageFile, page_files

ROOT = Path(__file__).parents[3]
FILES = page_files()
SCRIPTS = sorted(name for name in FILES if name.endswith(".js") and "vendor" not in name)

SINKS = (
    *("innerHTML", "outerHTML", "insertAdjacentHTML", "createContextualFragment", "srcdoc", r"document\.write"),
    *(r"\beval\(", "new Function", r"import\(", r"\.setAttribute\(\"(on|style|src|href)"),
)
"""What makes markup or code of a text."""


def text_of(file: PageFile) -> str:
    return file.content.decode()


def test_what_the_page_loads_is_served() -> None:
    page = text_of(FILES["/"])
    loaded = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    assert len(loaded) == 7
    assert set(loaded) <= set(FILES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_module_imports_is_served(name: str) -> None:
    for target in re.findall(r'from "\./([^"]+)"', text_of(FILES[name])):
        assert f"{name.rpartition('/')[0]}/{target}" in FILES


def test_every_file_of_the_page_is_served_and_every_one_belongs_to_the_package() -> None:
    own = ROOT / "services" / "page"
    there = {
        path.relative_to(own).as_posix()
        for path in own.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name not in ("VERSION", "index.html")
    }
    served = {name.removeprefix("/ui/") for name in FILES if name.startswith("/ui/") and "/group/" not in name}
    assert served == there


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_text_becomes_markup_or_code(name: str) -> None:
    script = text_of(FILES[name])
    assert not re.search("|".join(SINKS), script)
    assert not re.search(r"https?://", script)


def test_the_page_has_no_script_and_no_style_of_its_own_inside() -> None:
    page = text_of(FILES["/"])
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page)


def test_the_policy_lets_nothing_in_from_elsewhere_or_from_inside_a_text() -> None:
    rules = dict(each.strip().partition(" ")[::2] for each in PAGE_POLICY.split(";"))
    assert rules["default-src"] == "'self'"
    assert {rules[name] for name in ("object-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in PAGE_POLICY and "http" not in PAGE_POLICY


def test_the_vendored_script_is_named_with_its_version_and_licence() -> None:
    folder = ROOT / "services" / "page" / "vendor" / "uplot"
    assert "uPlot 1.6.32" in (folder / "VERSION").read_text()
    assert "(v1.6.32)" in text_of(FILES["/ui/vendor/uplot/uPlot.iife.min.js"])[:100]
    assert text_of(FILES["/ui/vendor/uplot/LICENSE"]).startswith("The MIT License")


def test_a_file_changes_its_etag_with_its_content() -> None:
    assert len({file.etag for file in FILES.values()}) == len(FILES)
    assert page_files()["/ui/app.js"].etag == FILES["/ui/app.js"].etag


def test_a_media_type_is_what_a_browser_runs_with_nosniff() -> None:
    types = {name.rpartition(".")[2]: file.media_type for name, file in FILES.items()}
    assert types["js"].startswith("text/javascript")
    assert types["css"].startswith("text/css")
    assert FILES["/"].media_type.startswith("text/html")
