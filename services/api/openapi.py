"""The description of the API as it is committed: `python -m services.api.openapi > docs/openapi.json`."""

import asyncio
import json
import sys
from typing import Any

from services.api.app import create_app
from services.control.plane import ControlPlane
from services.control.redaction import Redactor
from services.control.store import open_store


def openapi_document() -> dict[str, Any]:
    """OpenAPI of an application over an empty control plane, without the version of lessrl."""
    return asyncio.run(_document())


async def _document() -> dict[str, Any]:
    plane = ControlPlane(open_store(":memory:"), clock=lambda: 0.0, redactor=Redactor())
    await plane.open()
    app = create_app(plane, registry=plane.registry)
    document: dict[str, Any] = app.openapi()
    app.state.views.close()
    await plane.close()
    document["info"]["version"] = "v1"
    return document


def openapi_text() -> str:
    """The same as the file has it."""
    return json.dumps(openapi_document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
