"""Explains a fault of the database and the cure in one or two sentences, without a password."""

import re

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_PARAMETER = "invalid .*value|bad value for|unrecognized configuration parameter"
_CURES = (
    # Before the patterns that a parameter's name matches, such as sslmode.
    (_PARAMETER, "correct this parameter of the address"),
    (
        "invalid response to SSL negotiation|expected authentication request",
        "no PostgreSQL answers there: correct host and port",
    ),
    ("statement pooling", "the pooler has the mode statement: set pool_mode = transaction"),
    ("could not translate host name|name or service not known|resolve host", "no such host: correct its name"),
    ("connection refused", "nothing listens there: start it, or correct host and port"),
    ("timeout expired|timed out", "no answer to a connection: look at host, port and firewall"),
    ("password authentication failed|no password supplied|role .* does not exist", "correct user and password"),
    ("database .* does not exist", "make it by CREATE DATABASE, or correct its name"),
    ("no pg_hba.conf entry", "the server takes no such connection: look at its pg_hba.conf, or add ?sslmode=require"),
    ("ssl|certificate", "TLS fails: look at sslmode and sslrootcert of the address"),
    (
        "too many clients|remaining connection slots|too many connections",
        "raise max_connections, or put a pooler between",
    ),
    ("unsupported startup parameter", "a pooler refuses a parameter of the address: leave out options="),
    ("read-only|readonly|read only", "it can only be read: name the server that may write"),
    ("lock timeout|database is locked", "another holds a lock: it passes by itself, or look for what holds it"),
    ("statement timeout", "a statement took too long: look for what keeps the server busy"),
    ("queuepool", "all connections of this process are in use: look for what keeps the server busy"),
    ("unable to open database file", "look at the folder and its owner"),
    ("no such table|does not exist", "run `wylon migrate`"),
)


def explain_database_fault(fault: Exception, url: URL) -> str:
    """Return the fault, with the address and the cure; `fault` is from SQLAlchemy or from a driver."""
    cause = fault.orig if isinstance(fault, DBAPIError) and fault.orig is not None else fault
    said = " ".join(str(cause).split())
    text = f"queuepool {said}" if isinstance(fault, PoolTimeout) else said
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, text, re.IGNORECASE)), None)
    reason = f"{cure} ({said})" if cure else said
    return f"The database {shown(url)} of WYLON_DATABASE_URL can't be used: {_without_password(reason, url)}"


def is_lasting(fault: Exception) -> bool:
    """Return whether waiting mends nothing, because the address itself is wrong."""
    return bool(re.search(_PARAMETER, str(fault)))


def shown(url: URL) -> str:
    """Return an address for people: server and name, or the file."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    hosts = url.query.get("host", ())
    given = (hosts,) if isinstance(hosts, str) else hosts
    host = ",".join(given) or f"{url.host or 'localhost'}:{url.port or 5432}"
    return f"{host}/{url.database or ''}"


def _without_password(text: str, url: URL) -> str:
    secrets = [str(each) for each in (url.password, url.query.get("password")) if each]
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
