"""JSON texts that the parser accepts only after a change: encodings other than UTF-8, and unpaired surrogates."""

import codecs
import json
import re

# The pattern also matches an escaped backslash, so that the second backslash does not count as the start of an escape.
_ESCAPES = re.compile(rb"\\\\|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BACKSLASH = rb"\\"
_HARMLESS = rb"\u0000"


def in_utf8(body: bytes) -> bytes:
    """Return a JSON text in UTF-8 without a byte order mark; unchanged where the text is in no encoding of JSON."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    if encoding == "utf-8-sig":
        return body.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode(encoding).encode()
    except UnicodeError:
        return body


def without_surrogates(body: bytes) -> bytes:
    r"""Return a JSON text with each escaped surrogate replaced; the result is valid JSON if and only if `body` is.

    The grammar of JSON accepts `"\ud800"` alone; the parser here demands the other half of the pair.
    """
    if b"\\" not in body:
        return body
    return _ESCAPES.sub(lambda found: _BACKSLASH if found[0] == _BACKSLASH else _HARMLESS, body)
