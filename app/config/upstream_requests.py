"""Additions to the requests of an upstream: query, headers and members of the body; and time limits by model."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from app.config.toml_table import Table
from app.config.values import PREFIX, unfit_for_header
from app.domain.upstream import TimeLimit, TimeLimits

# Far more than providers ask for.
MAX_ENTRIES = 32
MAX_MODEL_LIMITS = 1_000
_MAX_VALUE_CHARS = 8_192
_MAX_BODY_BYTES = 64 * 1024
# In capitals, as usual: a key written here by mistake most likely does not match, and so is never shown.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
# Headers that separate a request from the next request, or decide how an answer is read.
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SECRET = re.compile(
    "authorization|(^|[-_])(auth|cookie|key|password|secret|sig|signature)($|[-_])|apikey|token$", re.IGNORECASE
)
_BY_VARIABLE = '{ env = "VARIABLE" }'


class Additions(NamedTuple):
    """The additions to every request; `secrets` are the values taken from the environment."""

    query: str
    headers: tuple[tuple[str, str], ...]
    body: tuple[tuple[str, bytes], ...]
    secrets: tuple[str, ...]


def read_additions(table: Table, environ: Mapping[str, str], *, has_key: bool) -> Additions:
    """Read `query`, `headers` and `body` of an upstream's table."""
    secrets: list[str] = []
    query = [
        (name, _text(table, "query", name, value, environ, secrets))
        for name, value in table.subtable("query", most=MAX_ENTRIES).items()
    ]
    return Additions(
        urlencode(query, quote_via=quote), _headers(table, environ, secrets, has_key), _body(table), tuple(secrets)
    )


def query_of_url(text: str) -> str:
    """Return the text after the question mark of a URL, escaped for a request."""
    return quote(text, safe="/%:@!$&'()*+,;=~?-._")


def read_model_limits(table: Table, others: TimeLimits) -> tuple[tuple[str, TimeLimits], ...]:
    """Read `limits` of an upstream's table: time limits by model, if different from the upstream's time limits."""
    found = []
    for glob, values in table.subtable("limits", most=MAX_MODEL_LIMITS).items():
        if not isinstance(values, dict):
            raise table.fault(
                "limits", f'{glob!r} must be a table, as in limits."{glob}" = {{ call_timeout_s = 7200 }}'
            )
        own = table.inner("limits", glob, values)
        own.check_keys(("first_byte_timeout_s", "call_timeout_s"), {})
        limits = [
            TimeLimit(seconds, own.place(key)) if (seconds := own.seconds(key)) else upstreams
            for key, upstreams in (("first_byte_timeout_s", others.first_byte), ("call_timeout_s", others.call))
        ]
        found.append((glob, TimeLimits(*limits)))
    return tuple(found)


def _headers(
    table: Table, environ: Mapping[str, str], secrets: list[str], has_key: bool
) -> tuple[tuple[str, str], ...]:
    headers: dict[str, str] = {}
    for name, value in table.subtable("headers", most=MAX_ENTRIES).items():
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise table.fault("headers", f"{name[:128]!r} is no name of a header")
        if lower in _RESERVED:
            raise table.fault("headers", f"{name} is set by wylon itself: please leave it out")
        if lower == "authorization" and has_key:
            raise table.fault("headers", f"{name} is made from api_key_env: give one of the two")
        if lower in headers:
            raise table.fault("headers", f"{name} is there twice; capitals do not count")
        text = _text(table, "headers", name, value, environ, secrets)
        if unfit := unfit_for_header(text):
            raise table.fault("headers", f"the value of {name} can't be used: {unfit}")
        headers[lower] = text
    return tuple(headers.items())


def _text(table: Table, key: str, name: str, value: object, environ: Mapping[str, str], secrets: list[str]) -> str:
    """Return a text value, or the text in the environment variable named by the value."""
    if isinstance(value, dict):
        variable = value.get("env")
        if list(value) != ["env"] or not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            raise table.fault(key, f"{name} must be a text, or {_BY_VARIABLE} with a name in capitals such as GPU_KEY")
        if variable.startswith(PREFIX):
            raise table.fault(key, f"{name}: names with {PREFIX} are those of settings: give the variable another name")
        text = environ.get(variable, "")
        if not text:
            raise table.fault(key, f"{name}: there is no environment variable {variable}, or it is empty")
        secrets.append(text)
    elif isinstance(value, str) and _SECRET.search(name):
        raise table.fault(
            key, f"{name} looks like a secret, which the file must not hold: write {name} = {_BY_VARIABLE}"
        )
    elif isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    else:
        raise table.fault(key, f"{name} must be a text, or {_BY_VARIABLE}")
    if len(text) > _MAX_VALUE_CHARS or not text.isprintable():
        raise table.fault(
            key, f"the value of {name} is longer than {_MAX_VALUE_CHARS:,} characters or can't be printed"
        )
    return text


def _body(table: Table) -> tuple[tuple[str, bytes], ...]:
    members = table.subtable("body", most=MAX_ENTRIES)
    if "stream" in members:
        raise table.fault("body", "stream can't be set: answers are taken whole")
    found = []
    for name, value in members.items():
        if not _is_json(value):
            raise table.fault("body", f"{name} has a value that JSON does not have, such as a date or infinity")
        found.append((name, msgspec.json.encode(value)))
    if sum(len(text) for _, text in found) > _MAX_BODY_BYTES:
        raise table.fault("body", f"it is larger than {_MAX_BODY_BYTES:,} bytes")
    return tuple(found)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))
