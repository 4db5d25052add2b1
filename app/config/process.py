"""The kinds of process, and the settings that a kind needs."""

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


class Process(StrEnum):
    """The kinds of process that read settings."""

    # The supervisor, which hands the settings on, and the commands of an operator.
    UP = "up"
    # Commands that need only the database and the secret of the API keys.
    MIGRATE = "migrate"
    WEB = "web"
    CONTROL = "control"
    FILES = "files"
    LINES = "lines"
    BEAT = "beat"
    # A Celery worker of several kinds, or of an unknown kind.
    CELERY = "celery"


_UP = frozenset({Process.UP})
_OF_CELERY = frozenset({Process.CELERY, Process.CONTROL, Process.FILES, Process.LINES})
_WITH_UPSTREAMS = _UP | _OF_CELERY | {Process.WEB}
# The kinds of process that need a setting; every kind needs the settings that are not named here.
_NEEDED_BY = {
    **dict.fromkeys(("HOST", "PORT"), _UP),
    "WORKERS": _UP | {Process.FILES, Process.CELERY},
    "CONCURRENCY": _UP | {Process.FILES, Process.LINES, Process.CELERY},
    "API_KEY": _UP | {Process.MIGRATE},
    "SECRET_FILE": _UP | {Process.MIGRATE, Process.WEB},
    "BROKER_URL": _WITH_UPSTREAMS | {Process.BEAT},
    "STORAGE_URL": _WITH_UPSTREAMS | {Process.MIGRATE},
    **dict.fromkeys(("CONFIG", "ENDPOINTS", "COMPLETION_WINDOWS", *OF_UPSTREAMS), _WITH_UPSTREAMS),
    **dict.fromkeys(("LINES_PER_TASK", "PREFIX_GROUPING"), _UP | {Process.FILES, Process.CELERY}),
    **dict.fromkeys(("DRAIN_GRACE_S", "MAX_ANSWER_MIB"), _UP | {Process.LINES, Process.CELERY}),
    "CANCEL_GRACE_S": _UP | {Process.CONTROL, Process.LINES, Process.CELERY},
    **dict.fromkeys(
        ("FINALIZE_MAX_TRIES", "TENANT_WEIGHTS", "DEADLINE_WEIGHT"), _UP | {Process.CONTROL, Process.CELERY}
    ),
    "CORS_ORIGINS": _UP | {Process.WEB},
}


def needed_by(process: Process, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without unneeded settings: an unneeded wrong value must not end the process."""
    unneeded = {f"{PREFIX}{name}" for name, processes in _NEEDED_BY.items() if process not in processes}
    needed = {name: value for name, value in environ.items() if name not in unneeded}
    if process not in _NEEDED_BY["CONFIG"]:
        # Nor does the process need a file of upstreams, which the current folder may have.
        needed[f"{PREFIX}CONFIG"] = ""
    return needed
