"""The page of `lessrl explain --html`: one file, nothing loaded, nothing of the data taken for markup."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_builders import make_line, make_response, with_fields, worked_line, write_lines

from services.explain.file import read_groups
from services.explain.group import ExplainedGroup, explain_record
from services.explain.html import MAX_PAGE_TOKENS, page, write_page
from services.explain.summary import summarise
from services.explain.words import reasons, words
from shaping.errors import UserError

HOSTILE = '</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">@data@ &amp; \u2028'


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = (tag, dict(attrs))

    def handle_data(self, data: str) -> None:
        if self._open and self._open[0] == "script":
            self.scripts.append((self._open[1], data))
        if self._open and self._open[0] == "style":
            self.styles.append(data)

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._open = None

    def data(self, name: str) -> Any:
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == name)
        return json.loads(text)


def explained(folder: Path, *lines: dict[str, Any]) -> list[ExplainedGroup]:
    file = read_groups(write_lines(folder, *lines))
    return [explain_record(record, options={}, bound="lower") for record in file.groups]


def make_page(
    folder: Path, *lines: dict[str, Any], title: str = "groups.jsonl", max_tokens: int = MAX_PAGE_TOKENS
) -> Page:
    groups = explained(folder, *lines)
    file = read_groups(write_lines(folder, *lines))
    return Page(page(title, summarise(file, groups), groups, max_tokens=max_tokens))


def test_the_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    shown = make_page(tmp_path, worked_line())
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(shown.tags)
    assert not [each for each in shown.attributes if each[1] in ("src", "href", "srcset", "style")]
    assert not [each for each in shown.attributes if each[1].startswith("on")]
    script = shown.scripts[-1][1]
    for word in ("http:", "https:", "fetch(", "XMLHttpRequest", "innerHTML", "insertAdjacentHTML", "eval(", "import("):
        assert word not in script
    assert not re.search(r"url\(|@import", shown.styles[0])


def test_the_pages_own_policy_lets_its_script_and_style_run_and_no_other(tmp_path: Path) -> None:
    shown = make_page(tmp_path, worked_line())
    (policy,) = (value for tag, name, value in shown.attributes if tag == "meta" and "default-src" in value)
    hashes = {
        kind: "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (("style", shown.styles[0]), ("script", shown.scripts[-1][1]))
    }
    assert policy == f"default-src 'none'; style-src '{hashes['style']}'; script-src '{hashes['script']}'"


def test_text_of_a_file_is_never_markup(tmp_path: Path) -> None:
    response = {"tokens": [HOSTILE, "b"], "entropies": [0, 1], "correct": True, "hint": HOSTILE}
    shown = make_page(
        tmp_path, make_line([response], prompt_id=HOSTILE, prompt=HOSTILE, group_id=HOSTILE), title=HOSTILE
    )
    plain = make_page(tmp_path, worked_line())
    assert shown.tags == plain.tags
    group, head = shown.data("group-0"), shown.data("data")
    assert group["prompt"] == HOSTILE
    assert head["file"] == HOSTILE
    assert "alert(1)" in group["tokens"][0] and "alert(1)" in group["rollouts"][0]["hint"]


def test_every_token_can_be_read_back_from_the_page(tmp_path: Path) -> None:
    lines = [worked_line({"step": 2, "prompt_id": "first"}), worked_line({"less": {"mode": "compat"}})]
    shown, groups = make_page(tmp_path, *lines), explained(tmp_path, *lines)
    head = shown.data("data")
    assert [(each["prompt_id"], each["step"], each["correct"], each["size"]) for each in head["groups"]] == [
        ("first", 2, 3, 5),
        ("worked", None, 3, 5),
    ]
    for index, group in enumerate(groups):
        data = shown.data(f"group-{index}")
        for row, rollout in enumerate(data["rollouts"]):
            response = group.record.responses[row]
            assert tuple(data["tokens"][number] for number in rollout["tokens"]) == response.tokens
            np.testing.assert_allclose(rollout["entropies"], group.entropies[row], rtol=1e-4)
            runs = zip(rollout["reasons"][::2], rollout["reasons"][1::2], strict=True)
            told = [data["reasons"][number] for number, times in runs for _ in range(times)]
            np.testing.assert_allclose([each["multiplier"] for each in told], group.multipliers[row], rtol=1e-6)
            assert [each["words"] for each in told] == [words(group, each) for each in reasons(group, row)]
            assert rollout["before"] == pytest.approx(float(group.before[row][0]), rel=1e-4)
            for at, each in enumerate(told):
                index_of_string = int(group.why.string_indices[row][at])
                assert each["string"] == (None if index_of_string < 0 else index_of_string)
        assert [each["places"] for each in data["strings"]] == [each.places.tolist() for each in group.why.strings]
        segments = group.why.analysis.support.segments
        assert [tuple(each[:3]) for each in data["segments"]] == list(
            zip(segments.rows.tolist(), segments.starts.tolist(), segments.stops.tolist(), strict=True)
        )


def test_what_was_computed_or_bounded_is_on_the_page(tmp_path: Path) -> None:
    response = {"tokens": ["a"], "top_logprobs": [[-0.5]], "correct": True}
    shown = make_page(tmp_path, make_line([response], vocab_size=9), make_line([response], vocab_size=9))
    head, group = shown.data("data"), shown.data("group-0")
    assert "LOWER BOUND" in head["warnings"][0]
    assert "computed by GRPO" in head["facts"][1]
    assert group["notes"] == [
        "Entropies are not exact: LESS was run on their lower bound. Low or high differs between the bounds for 0 of 1 "
        "tokens."
    ]
    assert group["bound"] == ", lower bound"


def test_a_token_that_the_trainer_shaped_otherwise_is_on_the_page(tmp_path: Path) -> None:
    line = worked_line()
    for row in range(5):
        line = with_fields(line, row, multipliers=1)
    applied = make_page(tmp_path, line).data("group-0")["rollouts"][0]["applied"]
    # All but H, which keeps its advantage either way.
    assert sorted(map(int, applied)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_advantages_of_each_token_and_responses_without_tokens_are_on_the_page(tmp_path: Path) -> None:
    line = make_line([make_response("ab", True, advantages=[-1, 2]), make_response("", False, advantages=[])])
    rollouts = make_page(tmp_path, line).data("group-0")["rollouts"]
    assert rollouts[0]["before"] == [-1, 2]
    assert (rollouts[1]["before"], rollouts[1]["tokens"], rollouts[1]["kept"]) == (0, [], None)


def test_a_page_holds_as_many_groups_as_a_browser_likes(tmp_path: Path) -> None:
    lines = [worked_line()] * 3
    head = make_page(tmp_path, *lines, max_tokens=120).data("data")
    assert len(head["groups"]) == 2
    assert head["warnings"] == ["The first 2 of 3 groups are on this page; choose others with --step or --prompt"]
    assert len(make_page(tmp_path, *lines, max_tokens=1).data("data")["groups"]) == 1


def test_the_page_is_written_whole_or_refused_in_one_line(tmp_path: Path) -> None:
    groups = explained(tmp_path, worked_line())
    summary = summarise(read_groups(tmp_path / "groups.jsonl"), groups)
    size = write_page(tmp_path / "out.html", "x", summary, groups)
    assert (tmp_path / "out.html").stat().st_size == size
    assert sorted(each.name for each in tmp_path.iterdir()) == ["groups.jsonl", "out.html"]
    with pytest.raises(UserError, match="--html must be a file that can be written, found No such file"):
        write_page(tmp_path / "missing" / "out.html", "x", summary, groups)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_draws_the_group_without_a_complaint(tmp_path: Path) -> None:
    groups = explained(tmp_path, worked_line())
    summary = summarise(read_groups(tmp_path / "groups.jsonl"), groups)
    write_page(tmp_path / "out.html", "x", summary, groups)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/b",
    ]
    address = f"file://{tmp_path}/out.html#g=0&r=0&t=0"
    done = subprocess.run(
        ["chromium", *options, "--dump-dom", address], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('class="rollout ') == 5
    # The string of the token in hand lights up in both rollouts that hold it, and its words are told.
    assert len(re.findall(r'class="t[^"]*same', done.stdout)) == 8
    assert "held by 2 of 3 correct rollouts and by no incorrect one: 2/3." in done.stdout
