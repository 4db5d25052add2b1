"""Input files with the highest CPU time per byte, and with lines that turn out to be invalid."""

from pathlib import Path

from app.domain.limits import MIB

_LINE_BYTES = 7 * MIB
_ARRAYS = b"[" * 90 + b"]" * 90


def write_dear_file(path: Path, size: int, *, name: str, method: str = "GET") -> None:
    """Write lines of brackets; with a method other than POST, a line is checked whole and then refused."""
    content = b",".join([_ARRAYS] * (_LINE_BYTES // len(_ARRAYS)))
    with path.open("wb") as file:
        for number in range(max(1, size // _LINE_BYTES)):
            file.write(
                b'{"custom_id":"%b-%d","method":"%b","url":"/v1/chat/completions","body":{"model":"stand-in",'
                b'"messages":[%b]}}\n' % (name.encode(), number, method.encode(), content)
            )
