"""The command line of every process; the Procfile and docker-compose.yml use the same command lines."""

import sys
from collections.abc import Sequence

from app.config import Settings

# A thread waits for the database and for disks, never for a caller. A few slow transactions must not delay the other
# requests.
WEB_THREADS = 64
# An idle connection costs a file and a few kB. At the limit, a new connection replaces the longest-waiting connection.
WEB_CONNECTIONS = 4_096
# gunicorn's maximum, for the long query of a list request.
WEB_REQUEST_LINE_BYTES = 8_190
# The web process must finish a warm stop before the supervisor kills the remaining processes.
WEB_GRACE_S = 5
# Ticks wait for the database and the broker, not for the processor.
CONTROL_THREADS = 8
# Threads for validations and file writers; work that waits for its turn holds no thread.
FILES_THREADS = 16

# At `info` Celery logs two lines per task. WYLON_LOG_LEVEL sets the level of wylon's own log lines.
_CELERY_LEVELS = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}
# -q drops the banner, which is not a log line.
_CELERY = ("-m", "celery", "-q", "-A", "workers.celery_app")
# Workers don't watch their peers or send events: repair relies on leases in Redis, and events cost messages.
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def web_command(bind: str) -> Sequence[str]:
    """Return the command of the web process; `bind` in gunicorn's spelling."""
    return (
        *("-m", "gunicorn", "app.api:create_app()"),
        *("--bind", bind),
        *("--workers", "1", "--worker-class", "app.api.server.GuardedThreads", "--threads", str(WEB_THREADS)),
        *("--worker-connections", str(WEB_CONNECTIONS)),
        # The timeout is for a hung thread; an upload of 200 MB over a slow line may take longer.
        *("--timeout", "300", "--graceful-timeout", str(WEB_GRACE_S), "--keep-alive", "75"),
        *("--limit-request-line", str(WEB_REQUEST_LINE_BYTES), "--no-control-socket"),
        *("--logger-class", "app.api.server_logs.ServerLogs"),
    )


def control_command(settings: Settings) -> Sequence[str]:
    """Return the command of the control process, for ticks and for requests that must not wait."""
    return _worker("ticks", "control", settings, "-c", str(CONTROL_THREADS))


def files_command(settings: Settings) -> Sequence[str]:
    """Return the command of the files process, which checks inputs, writes files and deletes."""
    return _worker("files", "files", settings, "-c", str(FILES_THREADS))


def worker_command(settings: Settings, name: str) -> Sequence[str]:
    """Return the command of a worker; the application sets the number of threads."""
    return _worker("lines", name, settings)


def beat_command(settings: Settings) -> Sequence[str]:
    """Return the command of beat."""
    return (*_CELERY, "beat", "-l", _celery_level(settings))


def run_by_this_python(arguments: Sequence[str]) -> Sequence[str]:
    """Return the command line that runs `-m …` with the interpreter and the packages of the current process."""
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
