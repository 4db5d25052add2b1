"""The command line of every process; the Procfile and docker-compose.yml run the same."""

import sys
from collections.abc import Sequence

from app.config import Settings

# A caller that reads or sends slowly holds a thread: a few of those must not keep the others waiting.
WEB_THREADS = 64
# Idle ones cost a file and a few kB each; from here on whoever comes takes the place of the idlest.
WEB_CONNECTIONS = 4_096
# The most that gunicorn takes, for a list's long query.
WEB_REQUEST_LINE_BYTES = 8_190
# A warm stop of the web has to end before the supervisor kills what is left.
WEB_GRACE_S = 5
# Ticks wait for the database and the broker, not for the processor.
CONTROL_THREADS = 8
# Validations and writers of files; those of a batch that wait for others have no thread.
FILES_THREADS = 16

# Celery's own lines at `info` are two for each task; ours have their level in WYLON_LOG_LEVEL.
_CELERY_LEVELS = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}
# Without the banner, which is no line of a log.
_CELERY = ("-m", "celery", "-q", "-A", "workers.celery_app")
# Workers neither watch each other nor send events: repair goes by leases in Redis, and chatter costs messages.
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def web_command(bind: str) -> Sequence[str]:
    """Return the command of the web process; `bind` as gunicorn spells it."""
    return (
        *("-m", "gunicorn", "app.api:create_app()"),
        *("--bind", bind),
        *("--workers", "1", "--worker-class", "app.api.server.GuardedThreads", "--threads", str(WEB_THREADS)),
        *("--worker-connections", str(WEB_CONNECTIONS)),
        # For a thread that hangs altogether; an upload of 200 MB over a slow line takes as long as it takes.
        *("--timeout", "300", "--graceful-timeout", str(WEB_GRACE_S), "--keep-alive", "75"),
        *("--limit-request-line", str(WEB_REQUEST_LINE_BYTES), "--no-control-socket"),
        *("--logger-class", "app.api.server_logs.ServerLogs"),
    )


def control_command(settings: Settings) -> Sequence[str]:
    """Return the command of the control process, which takes ticks and requests that must not wait."""
    return _worker("ticks", "control", settings, "-c", str(CONTROL_THREADS))


def files_command(settings: Settings) -> Sequence[str]:
    """Return the command of the process that checks inputs, writes files and deletes."""
    return _worker("files", "files", settings, "-c", str(FILES_THREADS))


def worker_command(settings: Settings, name: str) -> Sequence[str]:
    """Return the command of a worker; its number of threads is the application's own."""
    return _worker("lines", name, settings)


def beat_command(settings: Settings) -> Sequence[str]:
    """Return the command of beat."""
    return (*_CELERY, "beat", "-l", _celery_level(settings))


def run_by_this_python(arguments: Sequence[str]) -> Sequence[str]:
    """Return the command line that runs `-m …` by the interpreter, and so the packages, of this process."""
    return (sys.executable, *arguments)


def _celery_level(settings: Settings) -> str:
    return _CELERY_LEVELS[settings.log_level]


def _worker(queue: str, name: str, settings: Settings, *options: str) -> Sequence[str]:
    return (
        *_CELERY,
        "worker",
        *("-Q", queue, *options, "-n", f"{name}@%h", "-l", _celery_level(settings)),
        *_QUIET,
    )
