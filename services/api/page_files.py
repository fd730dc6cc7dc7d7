"""The built-in page at `/` and what it loads below `/ui/`. What it shows it asks the API for, as every client does."""

from functools import cache
from typing import Annotated

from fastapi import FastAPI, Header, Response

from services.api.problems import Problem
from services.page.files import PageFile, page_files


def add_page(app: FastAPI) -> None:
    """Serve its files; no path of a request reaches the file system."""
    # Read when somebody first looks: a control plane that nobody looks at needs none of them.
    files = cache(page_files)

    @app.get("/", include_in_schema=False)
    async def get_page(if_none_match: Annotated[str, Header()] = "") -> Response:
        return _answer(files()["/"], if_none_match)

    @app.get("/ui/{path:path}", include_in_schema=False)
    async def get_page_file(path: str, if_none_match: Annotated[str, Header()] = "") -> Response:
        found = files().get(f"/ui/{path}")
        if found is None:
            raise Problem(404, "not-found", "the page has no such file")
        return _answer(found, if_none_match)


def _answer(file: PageFile, if_none_match: str) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    if file.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.media_type})
