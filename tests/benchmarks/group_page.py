"""One group of 64 responses of 8,000 tokens in a real browser: python -m tests.benchmarks.group_page [--json]

The group's data by services/explain/view.py, then the page that `lessrl explain --html` writes of it, opened in
headless Chromium from the disk: `first_text_seconds` runs from the call to the first token on the screen, the reading
of the file included; a task of the page's thread counts from 50 ms on; frames are those of one long scroll.
"""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from services.explain.file import read_groups
from services.explain.group import explain_record
from services.explain.html import write_page
from services.explain.summary import summarise
from services.explain.view import group_view
from shaping.errors import UserError
from tests.benchmarks.report import Report, make_parser, write_report

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
NUM_WORDS, NUM_PHRASES = 40, 400
SCROLLS = 60

_WATCH = """
window.tasks = [];
new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((each) => each.duration)))
  .observe({type: "longtask", buffered: true});
new MutationObserver(() => {
  if (!window.firstAt && document.querySelector(".rollout .t")) window.firstAt = performance.now();
}).observe(document, {childList: true, subtree: true});
"""
_FRAMES = """() => {
  window.frames_ms = [];
  let last = performance.now();
  (function frame() {
    const now = performance.now();
    window.frames_ms.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  })();
}"""


def make_line(size: int, num_tokens: int) -> dict[str, Any]:
    """Responses of phrases that many of them share, with a few words of high entropy between."""
    rng = np.random.default_rng(0)
    phrases = [rng.integers(0, NUM_WORDS, rng.integers(6, 40)).tolist() for _ in range(NUM_PHRASES)]
    responses = []
    for row in range(size):
        words: list[int] = []
        nats: list[float] = []
        while len(words) < num_tokens:
            shared = rng.random() < 0.4
            phrase = phrases[int(rng.integers(0, 200)) if shared else int(rng.integers(200, 300)) + 100 * (row % 2)]
            words += [*phrase, *rng.integers(0, NUM_WORDS, 3).tolist()]
            nats += [*rng.exponential(0.05, len(phrase)).tolist(), *rng.gamma(3.0, 0.5, 3).tolist()]
        tokens = [f" word{each}" for each in words[:num_tokens]]
        tokens[::97] = [".\n"] * len(tokens[::97])
        entropies = [round(each, 5) for each in nats[:num_tokens]]
        responses.append({"tokens": tokens, "entropies": entropies, "correct": row % 2 == 0})
    return {"version": 1, "prompt_id": "long", "prompt": "Find x.", "responses": responses}


def measure(size: int, num_tokens: int) -> Report:
    """Raises:
    UserError: there is no Chromium.
    """
    browser_path = shutil.which("chromium")
    if browser_path is None:
        raise UserError("the benchmark drives a browser, found no `chromium` on the PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        file, page_file = Path(folder) / "groups.jsonl", Path(folder) / "page.html"
        file.write_text(_json(make_line(size, num_tokens)))
        groups = read_groups(file)
        group = explain_record(groups.groups[0], options={}, bound="lower")
        begun = time.perf_counter()
        group_view(group)
        figures: dict[str, float] = {"view_seconds": time.perf_counter() - begun}
        figures["page_mb"] = write_page(page_file, "long", summarise(groups, [group]), [group]) / 1e6
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(_WATCH)
            page.goto(f"file://{page_file}")
            figures |= _opened(page, size) | _scrolled(page)
            browser.close()
    return Report(benchmark="group_page", core=None, figures={"size": size, "num_tokens": num_tokens, **figures})


def _json(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


def _opened(page: Page, size: int) -> dict[str, float]:
    page.locator(".rollout").nth(size - 1).wait_for(state="attached")
    all_seconds = float(page.evaluate("performance.now()")) / 1000
    return {
        "first_text_seconds": float(page.evaluate("firstAt")) / 1000,
        "all_responses_seconds": all_seconds,
        "longest_task_ms": max(page.evaluate("tasks"), default=0.0),
    }


def _scrolled(page: Page) -> dict[str, float]:
    page.evaluate(_FRAMES)
    page.mouse.move(300, 500)
    for _ in range(SCROLLS):
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(16)
    frames = np.array(page.evaluate("frames_ms"))
    return {
        "scroll_frame_p50_ms": float(np.median(frames)),
        "scroll_frame_p95_ms": float(np.quantile(frames, 0.95)),
        "token_nodes": float(page.locator(".text .t").count()),
    }


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    write_report(measure(64, 8000), as_json=options.json)


if __name__ == "__main__":
    main()
