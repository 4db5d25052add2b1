"""Input files for the benchmark."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from app.domain.line import RequestLine

_decode = msgspec.json.Decoder(RequestLine).decode


def write_requests(path: Path, lines: int, bytes_per_line: int = 0) -> None:
    """Write `lines` chat requests, filled up to `bytes_per_line` bytes, line break included."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(_requests(lines, bytes_per_line))


def _requests(lines: int, bytes_per_line: int) -> Iterator[str]:
    for number in range(lines):
        head = (
            f'{{"custom_id":"{custom_id(number)}","method":"POST","url":"/v1/chat/completions",'
            f'"body":{{"model":"stand-in","messages":[{{"role":"user","content":"Say {number}.'
        )
        tail = '"}]}}\n'
        yield f"{head}{'x' * (bytes_per_line - len(head) - len(tail))}{tail}"


def custom_id(number: int) -> str:
    """Return the custom_id of the line at a position, 0-based."""
    return f"line-{number:05}"


def read_bodies(path: Path) -> list[bytes]:
    """Return the bodies of the lines, ready to post."""
    with path.open("rb") as file:
        return [bytes(_decode(line).body) for line in file]
