"""The kinds of process, and the settings that a kind does not need."""

from collections.abc import Mapping
from enum import StrEnum

from app.config.values import PREFIX

# The variables for a single upstream, without a file of upstreams.
OF_UPSTREAMS = (
    "UPSTREAM_URL",
    "UPSTREAM_API_KEY",
    "MODELS",
    "CONNECT_TIMEOUT_S",
    "FIRST_BYTE_TIMEOUT_S",
    "CALL_TIMEOUT_S",
    "MAX_TRIES",
)
_OF_ADDRESS = frozenset({"HOST", "PORT"})
_OF_RUNNING_LINES = frozenset(
    {
        "CONCURRENCY",
        "LINES_PER_TASK",
        "CANCEL_GRACE_S",
        "DRAIN_GRACE_S",
        "FINALIZE_MAX_TRIES",
        "PREFIX_GROUPING",
        "TENANT_WEIGHTS",
        "DEADLINE_WEIGHT",
    }
)


class Process(StrEnum):
    """The kinds of process that read settings."""

    # The supervisor, which hands the settings on, and the commands of an operator.
    UP = "up"
    # Commands that need only the database and the secret of the API keys.
    MIGRATE = "migrate"
    WEB = "web"
    # Celery workers and beat.
    CELERY = "celery"


_UNNEEDED = {
    Process.UP: frozenset[str](),
    Process.WEB: _OF_ADDRESS | _OF_RUNNING_LINES | {"WORKERS", "API_KEY"},
    Process.CELERY: _OF_ADDRESS | {"API_KEY", "SECRET_FILE"},
    Process.MIGRATE: _OF_ADDRESS
    | _OF_RUNNING_LINES
    | {"WORKERS", "BROKER_URL", "ENDPOINTS", "COMPLETION_WINDOWS", *OF_UPSTREAMS},
}


def needed_by(process: Process, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without unneeded settings: an unneeded wrong value must not end the process."""
    unneeded = {f"{PREFIX}{name}" for name in _UNNEEDED[process]}
    needed = {name: value for name, value in environ.items() if name not in unneeded}
    if process is Process.MIGRATE:
        # Nor does a migration need a file of upstreams, which the current folder may have.
        needed[f"{PREFIX}CONFIG"] = ""
    return needed
