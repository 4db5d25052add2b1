"""JSON texts that the parser takes only after a change: other encodings than UTF-8, and surrogates without a pair."""

import codecs
import json
import re

# An escaped backslash is matched too, so that the one after it is not taken for the start of an escape.
_ESCAPES = re.compile(rb"\\\\|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BACKSLASH = rb"\\"
_HARMLESS = rb"\u0000"


def in_utf8(body: bytes) -> bytes:
    """Return a JSON text in UTF-8 without a byte order mark; unchanged where it is none in any encoding of JSON."""
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
    r"""Return a JSON text with each escaped surrogate replaced, which is as good a JSON text as `body` is.

    The grammar of JSON takes `"\ud800"` alone; our parser wants the other half of the pair.
    """
    if b"\\" not in body:
        return body
    return _ESCAPES.sub(lambda found: _BACKSLASH if found[0] == _BACKSLASH else _HARMLESS, body)
