"""The list of calls as one plain page: no script, no style, nothing from elsewhere, as the API's policy demands."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def docs_page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    info = document["info"]
    rows = "\n".join(_rows(document))
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(info["title"])}</title></head>
<body>
<h1>{escape(info["title"])} {escape(info["version"])}</h1>
<p>{escape(info.get("description", ""))}</p>
<p>Send <code>Authorization: Bearer TOKEN</code> where the control plane asks for tokens. Every error is
<code>application/problem+json</code>. The whole description, bodies included, is
<a href="/openapi.json">/openapi.json</a>.</p>
{rows}
</body>
</html>
"""


def _rows(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f'<h2 id="{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></h2>'
            yield f"<p>{escape(operation.get('description', ''))}</p>"
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            members = [*_parameters(operation), *_members(document, body)]
            if members:
                yield "<ul>" + "".join(members) + "</ul>"
            answers = ", ".join(sorted(status for status in operation["responses"] if status.startswith("2")))
            yield f"<p>Answers {escape(answers)}.</p>"


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for each in operation.get("parameters", ()):
        if each["in"] != "path":
            words = f"{each['in']}. {each.get('description', '')}"
            yield f"<li><code>{escape(each['name'])}</code> {escape(words)}</li>"


def _members(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    named = next((each for each in (schema, *schema.get("anyOf", ())) if "$ref" in each), None)
    if named is None:
        return
    found = document["components"]["schemas"][named["$ref"].rpartition("/")[2]]
    for name, member in found.get("properties", {}).items():
        default = f" Default: {member['default']!r}." if member.get("default") not in (None, "") else ""
        yield f"<li><code>{escape(name)}</code> {escape(member.get('description', '') + default)}</li>"
