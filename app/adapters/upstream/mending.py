"""Mends answer heads that the parser refuses, where other clients read the head and only one reading is possible."""

import re

from app.adapters.upstream.faults import AnswerGarbled

_START = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] +[0-9]{3}(?: .*)?")
_INTERIM = re.compile(rb"HTTP/1\.[01] +1(?!01)[0-9]{2}\b")
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# The largest number that a parser holds has 18 digits.
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNKED = b"chunked"


def mend_head(said: bytes) -> bytes | None:
    """Return an answer in a form accepted by the parser, or None while the head is incomplete.

    Repeated equal lengths count as a single length. A length beside `chunked` is left out, as RFC 9112 (6.3) says.
    `identity` is no coding. Lines may be folded, end with LF alone, or hold control characters. A server with a
    malformed head may count the bytes after the head differently, and the connection must not be used again.

    Raises:
        AnswerGarbled: the end of the answer can't be told.
    """
    while True:
        said = said.lstrip(b"\r\n")
        # Without this check the client would go on waiting for a server that speaks no HTTP and waits for the client.
        if not said.startswith(_START[: len(said)]):
            raise AnswerGarbled("the answer is not of HTTP/1")
        end = _HEAD_END.search(said)
        if end is None:
            return None
        head, rest = said[: end.start()], said[end.end() :]
        if not _INTERIM.match(head):
            return _mended(head, rest)
        said = rest


def _mended(head: bytes, rest: bytes) -> bytes:
    status, *lines = _LINE_END.split(head)
    if not _STATUS_LINE.fullmatch(status):
        raise AnswerGarbled("the answer has no status line of HTTP/1")
    lengths: set[bytes] = set()
    codings: list[bytes] = []
    kept = [status]
    for name, value in _headers(lines):
        if name.lower() == b"content-length":
            lengths.update(part.strip() for part in value.split(b","))
        elif name.lower() == b"transfer-encoding":
            codings += (part.strip().lower() for part in value.split(b","))
        else:
            kept.append(b"%b: %b" % (name, _CONTROLS.sub(b" ", value)))
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise AnswerGarbled("the answer gives different lengths")
    codings = [coding for coding in codings if coding not in (b"", b"identity")]
    if _CHUNKED in codings[:-1]:
        raise AnswerGarbled("the answer's chunks are packed in another coding")
    if codings:
        kept.append(b"transfer-encoding: " + b", ".join(codings))
    elif lengths:
        kept.append(b"content-length: " + lengths.pop())
    return b"\r\n".join(kept) + b"\r\n\r\n" + rest


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and found:
            name, value = found[-1]
            found[-1] = (name, value + b" " + line.strip())
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise AnswerGarbled("the answer has a line among its headers that is none")
        found.append((name, value.strip()))
    return found
