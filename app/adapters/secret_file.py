"""The file with the secret of a deployment: 256 random bits kept in no database."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_MIN_BYTES = 32


def read_secret(path: Path) -> bytes | None:
    """Return the secret in a file, or None where the file does not exist.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is cut off or was never a secret.
    """
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    secret = bytes.fromhex(text)
    if len(secret) < _MIN_BYTES:
        raise ValueError(f"it has fewer than {_MIN_BYTES} bytes")
    return secret


def make_secret(path: Path) -> bytes:
    """Write a new secret that only the owner can read, unless the file exists; return the secret in the file."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(_MIN_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        # Whole or not at all, and never over a secret made by another process meanwhile.
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
    found = read_secret(path)
    if found is None:
        raise FileNotFoundError(f"{path} is gone again.")
    return found
