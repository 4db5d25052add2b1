"""A PostgreSQL that is durable and may be stopped, crashed and started again."""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from app.cli.up.child import ChildSpec
from tests.chaos.keeper import Keeper
from tests.integration.processes import environ_of, until
from tests.postgres import PostgresServer

NAME = "postgres"
DATABASE = "wylon"
_START_WITHIN_S = 60.0
# The defaults of durability: what was committed has to be there after a crash.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "300",
    "max_wal_size": "256MB",
}


class ChaosPostgres:
    """One cluster in a folder; its server is kept by the house's keeper."""

    def __init__(self, keeper: Keeper, log: Path, port: int) -> None:
        self._keeper = keeper
        self.port = port
        user = "nobody" if os.geteuid() == 0 else None
        # Never started: it knows where the wheel's programs are, in a folder that the user they run as may enter.
        self._source = PostgresServer()
        folder = self._source._folder
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        programs = self._source._programs(user)
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
        )
        options = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": str(port)}.items()]
        command = [str(programs / "postgres"), "-D", str(data), "-k", "", *options]
        keeper.keep(ChildSpec(NAME, [*_as_user(user), *command], environ_of({}), folder, log))
        self.await_up()
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def url(self, port: int | None = None) -> str:
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{DATABASE}"

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )

    def stop(self, number: signal.Signals) -> None:
        """End the server: SIGINT is its fast stop, SIGQUIT a crash without the last checkpoint."""
        self._keeper.stop(NAME, number)

    def start(self) -> None:
        self._keeper.resume(NAME)
        self.await_up()

    def await_up(self) -> None:
        until(self._answers, _START_WITHIN_S, "PostgreSQL answers")

    def clean_up(self) -> None:
        shutil.rmtree(self._source._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def _as_user(user: str | None) -> list[str]:
    if user is None:
        return []
    # The program takes the place of `setpriv`, so that signals reach it; the server ends with the harness.
    return ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL"]
