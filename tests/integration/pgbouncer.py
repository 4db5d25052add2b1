"""A PgBouncer of a test's own, in the mode in which a connection is another client's after each transaction."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.integration.brokers import free_port
from tests.integration.processes import START_WITHIN_S, until

_STOP_S = 10.0


def needs_pgbouncer() -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")


@contextmanager
def pooled(url: str, *, connections: int = 4, mode: str = "transaction") -> Iterator[str]:
    """Run a pooler before the database, with a pool of `connections` in `mode`; yields the pooler's address."""
    target, port = make_url(url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgb-"))
    (folder / "users.txt").write_text('"postgres" ""\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": connections,
        "max_client_conn": 500,
        "logfile": folder / "log",
        "pidfile": folder / "pid",
    }
    lines = ["[databases]", f"{target.database} = host={target.query['host']} user=postgres dbname={target.database}"]
    lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    # It refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        # Whatever the umask is: a command run within this process makes every file its owner's alone.
        for path in (folder, *folder.iterdir()):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    process = subprocess.Popen(
        [str(shutil.which("pgbouncer")), "-q", str(folder / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        cwd=folder,
    )
    try:
        until(lambda: _answers(port, str(target.database)), START_WITHIN_S, "PgBouncer answers")
        yield f"postgresql://postgres@127.0.0.1:{port}/{target.database}"
    finally:
        process.terminate()
        process.wait(_STOP_S)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int, database: str) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname=database).close()
    except psycopg.OperationalError:
        return False
    return True
