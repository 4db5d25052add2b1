"""Unpacks compressed answers, which are taken though they are not asked for."""

import zlib

from app.adapters.upstream.faults import AnswerGarbled

# Of zlib: the largest window with a gzip header, with a zlib header, and with none.
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
# The low half of a zlib header's first byte; servers send deflate both with and without that header.
_ZLIB_METHOD = 8
# What is unpacked in one step; a body past the limit is noticed after at most this much.
_STEP_BYTES = 64 * 1024


def unpack(body: bytes, encoding: str, max_bytes: int, *, is_whole: bool) -> tuple[bytes, bool]:
    """Return up to `max_bytes` of a body by its coding, in lower case, and whether that is all of it.

    Raises AnswerGarbled for what is not packed so, or ends before its end though `is_whole`.
    """
    unpacker = zlib.decompressobj(_window(encoding, body))
    pieces: list[bytes] = []
    room = max_bytes
    packed = body
    try:
        while room >= 0 and packed and not unpacker.eof:
            piece = unpacker.decompress(packed, _STEP_BYTES)
            pieces.append(piece[:room])
            room -= len(piece)
            packed = unpacker.unconsumed_tail
    except zlib.error as fault:
        raise AnswerGarbled(f"the body is not {encoding}: {fault}") from fault
    if room < 0:
        # The start is enough to say what it was; a second copy of the rest would only cost memory.
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
