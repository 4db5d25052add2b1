"""Unpacks compressed answers, which are accepted although not asked for."""

import zlib

from app.adapters.upstream.faults import AnswerGarbled

# zlib's codes for the largest window: with a gzip header, with a zlib header, and without a header.
_GZIP = 16 + zlib.MAX_WBITS
# The first byte of a member.
_GZIP_START = 0x1F
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
# The low half of the first byte of a zlib header; servers send deflate both with and without a header.
_ZLIB_METHOD = 8
# The size of a step of unpacking; a body past the limit is noticed at most one step late.
_STEP_BYTES = 64 * 1024


def unpack(body: bytes, encoding: str, max_bytes: int, *, is_whole: bool) -> tuple[bytes, bool]:
    """Return up to `max_bytes` of the unpacked body, and whether the body is complete; `encoding` is in lower case.

    Raises AnswerGarbled if the body is not packed with the encoding, or is cut off although `is_whole` is true.
    """
    window = _window(encoding, body)
    unpacker = zlib.decompressobj(window)
    pieces: list[bytes] = []
    room = max_bytes
    try:
        # In steps, since a member's end copies the rest of its step.
        for start in range(0, len(body), _STEP_BYTES):
            packed = body[start : start + _STEP_BYTES]
            while packed and room >= 0:
                if unpacker.eof:
                    if window != _GZIP or packed[0] != _GZIP_START:
                        # Bytes after the end are ignored, as curl ignores them.
                        packed = b""
                        break
                    # A gzip body may have several members, one after the other (RFC 1952, section 2.2).
                    unpacker = zlib.decompressobj(_GZIP)
                piece = unpacker.decompress(packed, _STEP_BYTES)
                if piece:
                    pieces.append(piece[:room])
                    room -= len(piece)
                packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as fault:
        raise AnswerGarbled(f"the body is not {encoding}: {fault}") from fault
    if room < 0:
        # The start is enough to identify the body; a second copy of the rest would only cost memory.
        return pieces[0], False
    if is_whole and not unpacker.eof:
        raise AnswerGarbled(f"the {encoding} body ends before its end")
    return b"".join(pieces), is_whole


def _window(encoding: str, body: bytes) -> int:
    if encoding in ("gzip", "x-gzip"):
        return _GZIP
    if encoding == "deflate":
        return _ZLIB if body[:1] and body[0] & 0x0F == _ZLIB_METHOD else _RAW
    raise AnswerGarbled(f"the content encoding {encoding!r} was not asked for and is not known")
