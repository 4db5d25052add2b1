"""/docs: the API's description as a self-contained page."""

import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from flask import Flask, Response

from app.api.auth import public

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; border-radius: 4px; }
code { padding: 1px 4px; } pre { padding: .8rem; overflow-x: auto; }
details { margin: .6rem 0; border: 1px solid #ddd; border-radius: 6px; padding: .5rem .8rem; }
summary { cursor: pointer; } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #eee; }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #e6e6e6; } code, pre { background: #262626; } details { border-color: #444; }
}
"""
_METHODS = ("get", "post", "delete")


def add_docs_page(app: Flask, describe: Callable[[], Mapping[str, Any]]) -> None:
    """Serve the page at /docs.

    Args:
        app: the app that serves the page.
        describe: returns the OpenAPI document.
    """

    @public
    def docs() -> Response:
        response = Response(render(describe()), mimetype="text/html")
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return response

    app.add_url_rule("/docs", "docs", docs)


def render(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as a page of HTML."""
    title = escape(document["info"]["title"])
    body = "".join(_sections(document))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>{escape(document['info'].get('description', ''))}</p>"
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.'
        f" Send your key as <code>Authorization: Bearer …</code>.</p>{body}</html>"
    )


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document.get("tags", ()):
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag.get('description', ''))}</p>"
        for path, operations in document["paths"].items():
            for method in _METHODS:
                operation = operations.get(method)
                if operation and tag["name"] in operation["tags"]:
                    yield _operation(method, path, operation, operations.get("parameters", []))
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_shape(schema)}</details>'


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: list[Mapping[str, Any]]) -> str:
    parts = [
        f'<details><summary><span class="method">{method.upper()}</span><code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary>"
    ]
    parameters = [*shared, *operation.get("parameters", [])]
    if parameters:
        rows = "".join(_row(p["name"], p["in"], p.get("description", "") or _brief(p["schema"])) for p in parameters)
        parts.append(f"<h4>Parameters</h4><table>{rows}</table>")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h4>Body: <code>{escape(kind)}</code></h4>{_shape(content['schema'])}")
    rows = "".join(_response_row(code, answer) for code, answer in operation["responses"].items())
    parts.append(f"<h4>Answers</h4><table>{rows}</table></details>")
    return "".join(parts)


def _response_row(code: str, answer: Mapping[str, Any]) -> str:
    schemas = [content["schema"] for content in answer.get("content", {}).values() if "schema" in content]
    links = ", ".join(_link(schema) for schema in schemas)
    return f"<tr><th>{escape(str(code))}</th><td>{escape(answer.get('description', ''))}</td><td>{links}</td></tr>"


def _shape(schema: Mapping[str, Any]) -> str:
    return _link(schema) if "$ref" in schema else f"<pre>{escape(json.dumps(schema, indent=2))}</pre>"


def _link(schema: Mapping[str, Any]) -> str:
    if "$ref" not in schema:
        return escape(_brief(schema))
    name = escape(schema["$ref"].rpartition("/")[2])
    return f'<a href="#{name}">{name}</a>'


def _brief(schema: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in schema.items() if not isinstance(value, dict | list))


def _row(*cells: str) -> str:
    first, *others = map(escape, cells)
    return f"<tr><th><code>{first}</code></th>" + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
