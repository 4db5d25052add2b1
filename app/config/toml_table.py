"""Reads the configuration file and its tables; SettingInvalid names file, table and key."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.domain.errors import SettingInvalid

# Hundreds of times the need of 64 upstreams: a larger file is not a configuration.
_MAX_FILE_BYTES = 1024 * 1024
# Longer than any name of a model or a server.
_MAX_TEXT_CHARS = 512
_MAX_SHOWN = 10**18
_ABSENT = object()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise SettingInvalid(f"{path}: it can't be read: {fault.strerror or fault}.") from None
    if len(data) > _MAX_FILE_BYTES:
        raise SettingInvalid(f"{path}: it is larger than {_MAX_FILE_BYTES:,} bytes, which no configuration is.")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise SettingInvalid(f"{path}: it is no text in UTF-8.") from None
    # The errors of TOML, and Python's error for a number with thousands of digits.
    except ValueError as fault:
        raise SettingInvalid(f"{path}: it is no TOML: {fault}.") from None
    except RecursionError:
        raise SettingInvalid(f"{path}: it is no TOML that can be read: it is nested too deeply.") from None


class Table:
    """A table of the file.

    Args:
        path: the file, for messages.
        name: the table's name as spelled in the file; empty for keys outside of tables.
        values: the content of the table.
    """

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self._path = path
        self._name = name
        self._where = f"{path}: [{name}]" if name else f"{path}:"
        self._values = values

    def fault(self, key: str, message: str) -> SettingInvalid:
        """Return the error of a key."""
        return SettingInvalid(f"{self._where} {key}: {message}.")

    def check_keys(self, known: Sequence[str], hints: Mapping[str, str]) -> None:
        """Refuse the first unknown key, with the key's hint or the nearest known key."""
        for key in self._values:
            if key in known:
                continue
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
            shown = key if key.isprintable() and len(key) <= _MAX_TEXT_CHARS else repr(key[:_MAX_TEXT_CHARS])
            raise SettingInvalid(f"{self._where} {shown}: there is no such key: {hints.get(key, hint).rstrip('.')}.")

    def place(self, key: str) -> str:
        """Return the place of a key, for messages."""
        return f"{key} in [{self._name}]"

    def inner(self, key: str, name: str, values: Mapping[str, Any]) -> "Table":
        """Return a table in the table of a key."""
        return Table(self._path, f'{self._name}.{key}."{name[:_MAX_TEXT_CHARS]}"', values)

    def subtable(self, key: str, *, most: int) -> Mapping[str, Any]:
        """Read a table of arbitrary names; empty if the key is missing."""
        values = self._values.get(key, {})
        if not isinstance(values, dict):
            raise self.fault(key, f'it must be a table, as in {key} = {{ name = "value" }}')
        if len(values) > most:
            raise self.fault(key, f"it has {len(values):,} entries: {most:,} is the most")
        for name in values:
            if not name or not name.isprintable() or len(name) > _MAX_TEXT_CHARS:
                raise self.fault(key, f"a name is empty, longer than {_MAX_TEXT_CHARS} or can't be printed")
        return values

    def is_given(self, key: str) -> bool:
        """Return whether the table has the key."""
        return key in self._values

    def number(self, key: str, *, low: int, high: int) -> int | None:
        """Read a whole number between two bounds; None if the key is missing."""
        value = self._values.get(key, _ABSENT)
        if value is _ABSENT:
            return None
        # For Python, true is a number, too.
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fault(key, f"it must be a whole number from {low:,} to {high:,}")
        if not low <= value <= high:
            raise self.fault(key, f"{_shown(value)} is not between {low:,} and {high:,}")
        return value

    def seconds(self, key: str, *, low: float = 0.001, high: float = 86_400.0) -> float | None:
        """Read a number of seconds between two bounds; None if the key is missing."""
        value = self._values.get(key, _ABSENT)
        if value is _ABSENT:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.fault(key, f"it must be a number of seconds from {low:g} to {high:,.0f}")
        # `nan` is never between two numbers.
        if not low <= value <= high:
            raise self.fault(key, f"{_shown(value)} is not between {low:g} and {high:,.0f} seconds")
        return float(value)

    def switch(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "it must be true or false, without quotes")
        return value

    def text(self, key: str) -> str | None:
        """Read a text; None if the key is missing."""
        value = self._values.get(key, _ABSENT)
        if value is _ABSENT:
            return None
        if not isinstance(value, str):
            raise self.fault(key, "it must be a text in quotes")
        return value

    def texts(self, key: str, *, most: int, example: str) -> tuple[str, ...] | None:
        """Read a list of different texts; None if the key is missing."""
        values = self._values.get(key, _ABSENT)
        if values is _ABSENT:
            return None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.fault(key, f"it must be a list of texts such as {example}")
        if not 1 <= len(values) <= most:
            raise self.fault(key, f"it has {len(values):,} entries: give from 1 to {most:,}")
        for value in values:
            if not value or value != value.strip() or not value.isprintable():
                raise self.fault(key, "an entry is empty, has spaces around it or has characters that can't be printed")
            if len(value) > _MAX_TEXT_CHARS:
                raise self.fault(key, f"an entry is longer than {_MAX_TEXT_CHARS} characters")
        if len(set(values)) < len(values):
            raise self.fault(key, "an entry is there twice")
        return tuple(values)


def _shown(value: float) -> str:
    """Return a number for a message; a number in TOML may have thousands of digits."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < _MAX_SHOWN else "the number"
    return f"{value:g}"
