"""Foreign variables: variables read by Celery itself, which would take the place of settings."""

import os
from collections.abc import Mapping, MutableMapping

_PREFIX = "CELERY_"
# Variables also read by Celery's command line, and REMAP_SIGTERM, which changes how a worker ends.
_NAMES = frozenset({"BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "SKIP_CHECKS", "REMAP_SIGTERM"})


def foreign_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the foreign variables, in order."""
    return sorted(name for name in environ if name.startswith(_PREFIX) or name in _NAMES)


def foreign_warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for every foreign variable, without the value, which may hold a password."""
    return [
        f"Warning: {name} is left out: only WYLON_… counts, such as WYLON_BROKER_URL."
        for name in foreign_variables(environ)
    ]


def leave_out_foreign(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Take the foreign variables out of the environment, before Celery reads the environment; return the names.

    Args:
        environ: cleared instead of the process's environment.
    """
    given = os.environ if environ is None else environ
    names = foreign_variables(given)
    for name in names:
        del given[name]
    return names
