"""Inputs made of those in the corpus, by chance that a seed repeats."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

CORPUS = Path(__file__).with_name("corpus")
MAX_BYTES = 4 * 1024
# What the parsers look for.
TOKENS: Sequence[bytes] = (
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"null", b"true", b"false", b"-0", b"1e999", b"NaN"),
    *(b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"),
    *(b"\xe2\x80\xa8", b"\xc2\x85", b"\\ud800", b"\\u0000", b"\\ud83d\\ude00", b"18446744073709551616", b"9" * 400),
    *(b"[" * 101, b'{"a":' * 101, b'"custom_id":"a"', b'"method":"POST"', b'"url":"/v1/embeddings"', b'"body":{}'),
    *(b'"model":"small"', b'"stream":true', b'"messages":[]', b'"input":["a","b"]', b'"prompt":null'),
    *(b'"usage":{"prompt_tokens":', b'"previous_response_id":"r"', b"--b", b"--b--", b"\r\n--b\r\n", b"\r\n\r\n"),
    *(b'Content-Disposition: form-data; name="file"; filename="a"\r\n', b"; filename*=UTF-8''%00%2f", b"../../"),
    *(b'name="purpose"\r\n\r\nbatch', b'name="expires_after[seconds]"\r\n\r\n3600', b"\x1f\x8b\x08\x00", b"\x78\x9c"),
    *(b"Wed, 21 Oct 2099 07:28:00 GMT", b"-1", b"inf", b"1e309", b"%s"),
)


def load(target: str) -> list[bytes]:
    """Return the inputs of a target's corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutate(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds, changed in one to five places."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        _STEPS[int(random.random() * len(_STEPS))](random, data, seeds)
    return bytes(data[:MAX_BYTES])


def _at(random: Random, data: bytearray) -> int:
    return int(random.random() * (len(data) + 1))


def _range(random: Random, data: bytearray) -> slice:
    start = _at(random, data)
    return slice(start, start + int(random.random() ** 3 * (len(data) - start)) + 1)


def _flip(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[int(random.random() * len(data))] ^= 1 << int(random.random() * 8)


def _set(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[int(random.random() * len(data))] = int(random.random() * 256)


def _insert_token(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = _at(random, data)
    data[at:at] = random.choice(TOKENS)


def _replace_by_token(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    data[_range(random, data)] = random.choice(TOKENS)


def _delete(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    del data[_range(random, data)]


def _repeat(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    part = data[_range(random, data)]
    at = _at(random, data)
    data[at:at] = part * min(random.choice((1, 2, 10, 100)), MAX_BYTES // max(1, len(part)))


def _splice(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = bytearray(random.choice(seeds))
    data[_range(random, data)] = other[_range(random, other)]


_STEPS = (_flip, _set, _insert_token, _replace_by_token, _delete, _repeat, _splice)
