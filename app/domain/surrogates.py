r"""Escapes of surrogates in JSON texts, such as "\ud83d\ude00" for one character or "\ud800" for half of one.

The grammar of JSON allows halves (RFC 8259, section 8.2), and clients that cut a text in the middle of a character send
halves. msgspec refuses halves even without returning a text. So msgspec gets two substitutes: the first shows that the
rest is JSON; the second hides the escapes, has the length of the original, and can be undone.
"""

# No UTF-8 text has these bytes.
_HIDDEN = b"\xff"
# Stands for two backslashes: the second backslash must not be taken for the beginning of an escape.
_PAIR = b"\xfe\xfe"


def has_surrogates(text: bytes) -> bool:
    """Return whether a JSON text may have escapes of surrogates."""
    return b"\\ud" in text or b"\\uD" in text


def without_surrogates(text: bytes) -> bytes:
    """Return a text that is JSON exactly if `text` is JSON by the grammar, with plain characters for the escapes."""
    return _replaced(text, b"\\u0", b"\\u0")


def hide_surrogates(text: bytes) -> bytes:
    """Return a text, which must be UTF-8, with plain bytes in place of the escapes."""
    return _replaced(text, _HIDDEN + b"ud", _HIDDEN + b"uD")


def show_surrogates(hidden: bytes) -> bytes:
    """Return a part of a text with its escapes, as before `hide_surrogates`."""
    return hidden.replace(_HIDDEN, b"\\")


def _replaced(text: bytes, for_lower: bytes, for_upper: bytes) -> bytes:
    escapes = text.replace(b"\\\\", _PAIR).replace(b"\\ud", for_lower).replace(b"\\uD", for_upper)
    return escapes.replace(_PAIR, b"\\\\")
