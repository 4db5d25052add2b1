"""PostgreSQL: connections whose every wait has a bound, also behind a pooler that hands them on after each transaction.

Nothing is left in a session: limits are set within each transaction, and statements are prepared only where the URL
says so.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction, TransactionTimeout
from sqlalchemy import URL, Connection

# psycopg reports an answer that is overdue by an error of this kind, which it does not export.
from psycopg.errors import _WaitTimeout as AnswerOverdue  # isort: skip

# A silent server is noticed within half a minute, at every moment; the kernel does it.
_SOCKET_OPTIONS: dict[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_CONNECT_S = 4
# The begin of a transaction takes a round trip: a server that keeps it waiting for longer stands still.
_BEGIN_S = 5.0
# A server that ends a statement at its limit needs a moment to say so.
_ANSWER_SLACK_S = 5.0

# What the server itself ended, and what a server says that only reads since a fail-over: worth another try.
PASSING_FAULTS = (IdleInTransactionSessionTimeout, TransactionTimeout, ReadOnlySqlTransaction)


@dataclass(frozen=True)
class Limits:
    """How long a transaction may wait for a lock, for a statement, and for its own process between statements."""

    lock_s: float
    statement_s: float
    idle_s: float

    def begin(self) -> str:
        """Return the first statement of a transaction: sets the limits, for it alone, and asks whether it may write."""
        # A process that stands still within a transaction, or is cut off in it, must not keep its locks from the rest.
        named = {
            "idle_in_transaction_session_timeout": self.idle_s,
            "lock_timeout": self.lock_s,
            "statement_timeout": self.statement_s,
        }
        settings = ", ".join(f"set_config('{name}', '{int(limit * 1_000)}', true)" for name, limit in named.items())
        return f"SELECT current_setting('transaction_read_only'), {settings}"


# A caller may wait for each of these, and asks again after a 503; a tick or a task comes again by itself.
USUAL = Limits(lock_s=3.0, statement_s=30.0, idle_s=10.0)
# Changes of the schema wait for the one who changes it already, and copy tables.
MIGRATING = Limits(lock_s=60.0, statement_s=3_600.0, idle_s=600.0)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where its server keeps an answer for longer than it may."""

    answer_within_s = _BEGIN_S

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, as psycopg does, but not for ever."""
        try:
            return super().wait(gen, interval, self.answer_within_s if timeout is None else timeout)
        except AnswerOverdue:
            # Nobody knows what becomes of the statement: the connection is good for nothing more.
            self.close()
            raise psycopg.OperationalError(
                f"the server gave no answer within {self.answer_within_s:g} s and was hung up on"
            ) from None


def connect_options(url: URL) -> dict[str, Any]:
    """Return what each connection is opened with; what the URL says itself is left as it is."""
    options = {**_SOCKET_OPTIONS, "connect_timeout": _CONNECT_S, "target_session_attrs": "read-write"}
    # Prepared statements belong to a session, which a pooler gives to another client with each transaction.
    threshold = url.query.get("prepare_threshold")
    options = {name: value for name, value in options.items() if name not in url.query}
    return {**options, "prepare_threshold": None if threshold is None else int(str(threshold))}


def begin(connection: Connection, limits: Limits) -> bool:
    """Begin a transaction under these limits; return whether it may write."""
    driver: Any = connection.connection.driver_connection
    driver.answer_within_s = _BEGIN_S
    is_read_only = connection.exec_driver_sql(limits.begin()).scalar_one()
    driver.answer_within_s = limits.statement_s + _ANSWER_SLACK_S
    return bool(is_read_only == "off")
