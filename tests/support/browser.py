"""A real browser for tests: Debian's Chromium, headless, with an empty profile, and all that it complains of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Before any script of the page: what its policy refuses, and what would be called if a text became a script.
_WATCH = """
window.refused = [];
window.ran = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.refused.push(`${event.violatedDirective} ${event.blockedURI}`));
window.alert = (text) => window.ran.push(String(text));
"""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Raises a failure that names the package where there is no Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(
            "the tests of the page drive a browser and found no `chromium` on the PATH: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True, kw_only=True)
class Visit:
    """A page with an empty profile.

    Args:
        complaints: what it wrote to the console as an error, and exceptions that nobody caught.
        requests: addresses that it asked for.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check_is_clean(self, address: str) -> None:
        """No error, nothing refused by the policy, no text that ran, no request to elsewhere."""
        assert self.complaints == []
        assert self.page.evaluate("[...window.refused, ...window.ran]") == []
        assert [each for each in self.requests if not each.startswith((address, "blob:", "data:"))] == []


@contextmanager
def visit(browser: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """Open an address.

    Args:
        options: of the browser's context: viewport, color_scheme ...
    """
    settings: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **options}
    context = browser.new_context(**settings)
    try:
        page = context.new_page()
        seen = Visit(page=page)
        page.add_init_script(_WATCH)
        page.on("console", lambda message: _note(seen, message.type, message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(address)
        yield seen
    finally:
        context.close()


def _note(seen: Visit, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        seen.complaints.append(text)
