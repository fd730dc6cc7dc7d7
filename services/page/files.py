"""The files of the page by their address: a fixed list, so that no path of a request ever reaches the file system.

They say nothing of any run. The page wants `PAGE_POLICY`: nothing from elsewhere, no inline script or style, and no
string may become markup or code.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources

from services.explain.html import MODULES

PAGE_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

_OWN = (
    *("app.js", "api.js", "feed.js", "charts.js", "parts.js", "dialogs.js", "shell.js", "style.css", "icon.svg"),
    *("runs_view.js", "run_view.js", "groups_view.js", "group_view.js", "workers_view.js", "config_view.js"),
    *("vendor/uplot/uPlot.iife.min.js", "vendor/uplot/uPlot.min.css", "vendor/uplot/LICENSE"),
)
_GROUP = ("group.css", *(name for name in MODULES if name != "page.js"))
_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """One file as it is served.

    Args:
        etag: changes with the content.
    """

    content: bytes
    media_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Every file by its path: `/` and those below `/ui/`; the drawing of groups is below `/ui/group/`."""
    found = {"/": _file("services.page", "index.html")}
    found |= {f"/ui/{name}": _file("services.page", name) for name in _OWN}
    return found | {f"/ui/group/{name}": _file("services.explain", f"page/{name}") for name in _GROUP}


def _file(package: str, name: str) -> PageFile:
    content = resources.files(package).joinpath(*name.split("/")).read_bytes()
    media_type = _MEDIA_TYPES.get(name.rpartition(".")[2], "text/plain; charset=utf-8")
    return PageFile(content=content, media_type=media_type, etag=f'"{hashlib.sha256(content).hexdigest()[:16]}"')
