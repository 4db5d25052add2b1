"""Variables of the environment that would take the place of settings: those that Celery reads for itself."""

import os
from collections.abc import Mapping, MutableMapping

_PREFIX = "CELERY_"
# Those that Celery's command line reads as well, and one that changes how a worker ends.
_NAMES = frozenset({"BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "SKIP_CHECKS", "REMAP_SIGTERM"})


def foreign_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of these variables, in order."""
    return sorted(name for name in environ if name.startswith(_PREFIX) or name in _NAMES)


def foreign_warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each of these variables, without its value, which may hold a password."""
    return [
        f"Warning: {name} is left out: only WYLON_… counts, such as WYLON_BROKER_URL."
        for name in foreign_variables(environ)
    ]


def leave_out_foreign(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Take these variables out of the environment, before Celery reads it; return their names.

    Args:
        environ: cleared instead of the process's environment.
    """
    given = os.environ if environ is None else environ
    names = foreign_variables(given)
    for name in names:
        del given[name]
    return names
