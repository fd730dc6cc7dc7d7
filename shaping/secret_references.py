"""References to secrets in a recipe: `${env:NAME}` and `${file:PATH}`, looked up when they are used and not before.

The recipe keeps the reference, so that no file, checkpoint or control plane that holds the recipe holds the secret.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

_REFERENCE = re.compile(r"\$\{(env|file):([^{}]+)\}")
# What stays as it is in the path and in the query of a URL that is written out whole, as browsers and httpx do it.
_SAFE_IN_PATHS = "!$%&'()*+,/:;=@[\\]^|~-._"
_SAFE_IN_QUERIES = _SAFE_IN_PATHS + "?`{}"


def references_in(text: str) -> tuple[str, ...]:
    """Every reference in a text, as written."""
    return tuple(match.group() for match in _REFERENCE.finditer(text))


def secret_of(reference: str, environment: Mapping[str, str]) -> str:
    """What a reference stands for; "" where there is nothing, or nothing that can be read here."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return ""
    source, name = match.groups()
    if source == "env":
        return environment.get(name, "")
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def resolve_references(text: str, where: str) -> str:
    """The text with its references replaced by what they stand for, in this process.

    Args:
        where: the recipe key, for messages.
    Raises:
        ValueError: one stands for nothing here; the message names it, and no secret.
    """

    def stands_for(match: re.Match[str]) -> str:
        secret = secret_of(match.group(), os.environ)
        if not secret:
            raise ValueError(
                f"a reference must stand for a secret where it is used, found none for {match.group()} ({where}); set "
                "the variable, or write the file, on that machine"
            )
        return secret

    return _REFERENCE.sub(stands_for, text)


def spellings_of(secret: str) -> Iterator[str]:
    """A secret as it stands in a text, in JSON, and in URLs; some may be the same."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for safe in ("", "/", _SAFE_IN_PATHS, _SAFE_IN_QUERIES):
        yield quote(secret, safe=safe)
