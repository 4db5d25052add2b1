"""PostgreSQL connections with a bound on every wait, also behind a pooler that changes clients after each transaction.

A session keeps no state: limits are set within each transaction, and statements are prepared only if the URL says so.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction, TransactionTimeout
from sqlalchemy import URL, Connection

from app.domain.errors import SettingInvalid

# psycopg raises this error for an overdue answer, but does not export the class.
from psycopg.errors import _WaitTimeout as AnswerOverdue  # isort: skip

# The kernel notices a silent server within half a minute, at every moment.
_SOCKET_OPTIONS: dict[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_CONNECT_S = 4
# Beginning a transaction takes a round trip: a server that takes longer than this has stopped.
_BEGIN_S = 5.0
# A server that ends a statement at the limit needs a moment to report the end.
_ANSWER_SLACK_S = 5.0

# Faults worth another try: the server ended the transaction, or became read-only in a fail-over.
PASSING_FAULTS = (IdleInTransactionSessionTimeout, TransactionTimeout, ReadOnlySqlTransaction)


@dataclass(frozen=True)
class Limits:
    """How long a transaction may wait for a lock, for a statement, and for the client process between statements."""

    lock_s: float
    statement_s: float
    idle_s: float

    def begin(self) -> str:
        """Return the first statement of a transaction: sets the limits, and asks whether the transaction may write."""
        # A process that stops or loses the network amid a transaction must not keep locks from other processes.
        named = {
            "idle_in_transaction_session_timeout": self.idle_s,
            "lock_timeout": self.lock_s,
            "statement_timeout": self.statement_s,
        }
        settings = ", ".join(f"set_config('{name}', '{int(limit * 1_000)}', true)" for name, limit in named.items())
        return f"SELECT current_setting('transaction_read_only'), {settings}"


# A caller may wait for each of these limits, and retries after a 503; a tick or a task comes again by itself.
USUAL = Limits(lock_s=3.0, statement_s=30.0, idle_s=10.0)
# A change of the schema waits for another running change, and copies tables.
MIGRATING = Limits(lock_s=60.0, statement_s=3_600.0, idle_s=600.0)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time."""

    answer_within_s = _BEGIN_S

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer as psycopg does, but with a limit."""
        try:
            return super().wait(gen, interval, self.answer_within_s if timeout is None else timeout)
        except AnswerOverdue:
            # The outcome of the statement is unknown, so the connection can't be used again.
            self.close()
            raise psycopg.OperationalError(
                f"the server gave no answer within {self.answer_within_s:g} s and was hung up on"
            ) from None


def connect_options(url: URL) -> dict[str, Any]:
    """Return the options for every connection; options in the URL come first."""
    options = {**_SOCKET_OPTIONS, "connect_timeout": _CONNECT_S, "target_session_attrs": "read-write"}
    # A prepared statement belongs to a session, which a pooler gives to another client after the transaction.
    threshold = url.query.get("prepare_threshold")
    options = {name: value for name, value in options.items() if name not in url.query}
    # Without this option the text of a database in SQL_ASCII is bytes, and PGCLIENTENCODING counts.
    options["client_encoding"] = "UTF8"
    return {**options, "prepare_threshold": None if threshold is None else int(str(threshold))}


def check_encoding(connection: psycopg.Connection[Any], address: str) -> None:
    """Close the connection and raise SettingInvalid where the database does not keep text as UTF-8."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        connection.close()
        raise SettingInvalid(
            f"The database {address} of WYLON_DATABASE_URL can't be used: it has the encoding {encoding}, so make"
            " another by CREATE DATABASE NAME ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        )


def begin(connection: Connection, limits: Limits) -> bool:
    """Begin a transaction under the limits; return whether the transaction may write."""
    driver: Any = connection.connection.driver_connection
    driver.answer_within_s = _BEGIN_S
    is_read_only = connection.exec_driver_sql(limits.begin()).scalar_one()
    driver.answer_within_s = limits.statement_s + _ANSWER_SLACK_S
    return bool(is_read_only == "off")
