"""Checks whether the database has the schema of this program, without alembic, which takes long to load."""

import re
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.adapters.db.engine import reading
from app.domain.errors import Unavailable

_VERSIONS = Path(__file__).parent / "migrations" / "versions"
_ASSIGNED = re.compile(r"^(revision|down_revision) = \"(\w+)\"$", re.MULTILINE)


@cache
def newest_revision() -> str:
    """Return the newest revision, the only revision without a successor."""
    revisions, followed = set[str](), set[str]()
    for path in _VERSIONS.glob("[0-9]*.py"):
        assigned = dict(_ASSIGNED.findall(path.read_text("utf-8")))
        revisions.add(assigned["revision"])
        followed.add(assigned.get("down_revision", ""))
    (newest,) = revisions - followed
    return newest


def check_schema(engine: Engine) -> None:
    """Raise Unavailable where the database does not answer or has a schema of a different version."""
    try:
        with reading(engine) as connection:
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:
        # PostgreSQL's error for a missing table.
        found = None
    except Unavailable as fault:
        # SQLite's error for a missing table.
        cause = fault.__cause__
        if not (isinstance(cause, OperationalError) and "no such table" in str(cause)):
            raise
        found = None
    if found is None:
        raise Unavailable("the database has no schema yet: run `wylon migrate`")
    if found != newest_revision():
        raise other_schema(found)


def other_schema(found: str) -> Unavailable:
    """Return the error of a database with a schema of a different version."""
    return Unavailable(
        f"the database has schema {found} and this program needs {newest_revision()}: run `wylon migrate` of the"
        " newest version that you use, then start all processes with that version"
    )
