"""Keeps wylon's files private to the user of wylon, since the files hold prompts, answers and keys."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from app.config import Settings, database_path

_UMASK = 0o077
# Names in the data folder. The files of the database begin with the first name.
_OWN = ("wylon.db", "api-key", "secret", "log", "run", "blobs")


def keep_private() -> None:
    """Make new files and folders of this process and of child processes private to the user."""
    os.umask(_UMASK)


def correct_modes(settings: Settings) -> list[str]:
    """Take access to wylon's existing files away from other users; return messages for the terminal.

    A data folder with files of other programs keeps its mode, which the programs may need.
    """
    entries = list(_entries(settings.data))
    own = [path for path in entries if path.name.startswith(_OWN)]
    found = [*own, *_database_files(settings)]
    for folder in own:
        if folder.name in ("log", "run"):
            found += _entries(folder)
    if len(own) == len(entries):
        found.insert(0, settings.data)
    opened = [path for path in dict.fromkeys(found) if _is_open_to_others(path)]
    refused = [path for path in opened if not _close(path)]
    said = []
    if closed := [str(path) for path in opened if path not in refused]:
        said.append(f"Other users could read {_named(closed)}: it is for its owner alone now.")
    if refused:
        names = _named([str(path) for path in refused])
        said.append(f"Warning: other users can read {names}, and this user may not change that.")
    return said


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _database_files(settings: Settings) -> Iterator[Path]:
    database = database_path(settings.database_url)
    if database is not None:
        yield from (database, *(database.with_name(f"{database.name}-{part}") for part in ("wal", "shm", "journal")))


def _is_open_to_others(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and bool(mode & _UMASK)


def _close(path: Path) -> bool:
    try:
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_UMASK)
    except OSError:
        return False
    return True


def _named(paths: list[str]) -> str:
    shown, more = paths[:3], len(paths) - 3
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
