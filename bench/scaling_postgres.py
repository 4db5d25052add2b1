"""A durable PostgreSQL, to measure the cost of commits, and the server's counters of its work."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import psycopg

from tests.postgres import PostgresServer

# The defaults of durability: a commit waits for the disk.
_SETTINGS = {"listen_addresses": "", "shared_buffers": "128MB", "max_connections": "200", "max_wal_size": "1GB"}


@dataclass(frozen=True)
class PostgresWork:
    """The server's work so far."""

    commits: int
    wal_bytes: int
    connections: int
    cpu_s: float


class DurablePostgres(PostgresServer):
    """The tests' server, with the defaults of durability."""

    def start(self) -> None:
        user = "nobody" if os.geteuid() == 0 else None
        if user is not None:
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, -1)
        programs, data = self._programs(user), self._folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
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
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def database_url(self) -> str:
        """Return the URL of a new, empty database."""
        return self.url(self.create_database()).replace("postgresql+psycopg:", "postgresql:")

    def work(self, url: str) -> PostgresWork:
        """Return the work in a database, with the WAL and CPU time of the whole server."""
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT xact_commit, pg_current_wal_lsn() - '0/0'::pg_lsn,"
                " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) - 1"
                " FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        return PostgresWork(int(row[0]), int(row[1]), int(row[2]), self._cpu_s())

    def _cpu_s(self) -> float:
        assert self._process is not None
        root = psutil.Process(self._process.pid)
        # The server's times include ended children; add the times of living children.
        spent = root.cpu_times()
        total = spent.user + spent.system + spent.children_user + spent.children_system
        for child in root.children():
            times = child.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def durable_postgres() -> Iterator[DurablePostgres]:
    """Run a server of its own for the block."""
    server = DurablePostgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()
