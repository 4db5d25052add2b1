"""Report start faults that are not bugs in a single line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import click
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.domain.errors import WylonError

# Credentials in an address, and the password parameter of database drivers.
_SECRETS = re.compile(r"(?<=://)\S*(?=@)|(?<=password=)\S+")


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn a fault of the disk, the database or another part into a command line error without passwords."""
    try:
        yield
    except BrokenPipeError:
        # Nobody reads the output any more, as with `wylon up | head`: click ends the command without a word.
        raise
    except OSError as fault:
        where = f"Can't use {fault.filename}" if fault.filename else "The system refused"
        raise _error(f"{where}: {fault.strerror or fault}.") from None
    except DBAPIError as fault:
        raise _error(f"The database of WYLON_DATABASE_URL can't be used: {fault.orig}") from None
    except (SQLAlchemyError, CommandError) as fault:
        raise _error(f"The database of WYLON_DATABASE_URL can't be used: {fault}") from None
    except WylonError as fault:
        raise _error(str(fault)) from None


def _error(message: str) -> click.ClickException:
    return click.ClickException(_SECRETS.sub("…", " ".join(message.split())))
