"""Foreign variables: variables read by Celery and libpq themselves, which would take the place of settings."""

import os
import re
from collections.abc import Mapping, MutableMapping

_PREFIX = "CELERY_"
# Variables also read by Celery's command line, and REMAP_SIGTERM, which changes how a worker ends.
_NAMES = frozenset({"BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "SKIP_CHECKS", "REMAP_SIGTERM"})
_OF_LIBPQ = re.compile(
    r"PG(APPNAME|CHANNELBINDING|CLIENTENCODING|CONNECT_TIMEOUT|DATABASE|DATESTYLE|GEQO|GSS\w+|HOST|HOSTADDR|KRBSRVNAME"
    r"|LOADBALANCEHOSTS|M(AX|IN)PROTOCOLVERSION|OPTIONS|PASSFILE|PASSWORD|PORT|REQUIREAUTH|REQUIREPEER|SERVICE"
    r"|SERVICEFILE|SSL\w+|SYSCONFDIR|TARGETSESSIONATTRS|TZ|USER)"
)


def foreign_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the foreign variables, in order."""
    return sorted(name for name in environ if name.startswith(_PREFIX) or name in _NAMES or _OF_LIBPQ.fullmatch(name))


def foreign_warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for every foreign variable, without the value, which may hold a password."""
    return [
        f"Warning: {name} is left out: only WYLON_… counts, such as"
        f" WYLON_{'DATABASE' if _OF_LIBPQ.fullmatch(name) else 'BROKER'}_URL."
        for name in foreign_variables(environ)
    ]


def leave_out_foreign(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Take the foreign variables out of the environment, before Celery or libpq reads it; return the names.

    Args:
        environ: cleared instead of the process's environment.
    """
    given = os.environ if environ is None else environ
    names = foreign_variables(given)
    for name in names:
        del given[name]
    return names
