"""A house: one deployment that stays up over many rounds, whose every part can be hit."""

import contextlib
import shutil
import signal
import socket
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from app.adapters.broker.connections import key_prefix, open_client
from app.adapters.roster import RedisRoster
from app.cli.up import processes as commands
from app.cli.up.broker import embed_broker
from app.cli.up.child import ChildSpec
from app.config import load_settings
from app.domain.broker_address import read_broker_address
from tests.chaos import processes
from tests.chaos.backstage import Backstage
from tests.chaos.keeper import Keeper
from tests.chaos.ledger import Hit
from tests.chaos.model_server import ModelServer
from tests.chaos.postgres import NAME as POSTGRES
from tests.chaos.postgres import ChaosPostgres
from tests.chaos.storage import Storage
from tests.chaos.wires import Wire
from tests.clocks import Clocks, find_library
from tests.integration.processes import WYLON, environ_of, until

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
API_KEY = "wy-chaos"
UPSTREAMS = ("one", "two")
# Over the three workers together: four of each in each.
CALLS_PER_UPSTREAM = 12
EXTRA_WORKER = "worker-x"
SHORT_WINDOW = "8s"
SHORT_WINDOW_S = 8.0
START_WITHIN_S = 90.0
_SAID_CHARS = 2_000
# The watch looks twenty times a second, beside what the machine does.
_NOTICED_WITHIN_S = 0.25


class House:
    """`wylon up` with two workers, a third worker behind wires, and what both need."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.folder = Path(tempfile.mkdtemp(prefix="wylon-chaos-"))
        self.data = self.folder / "data"
        self.storage = Storage(self.folder)
        self.backstage = Backstage()
        self._worker_pids: set[int] = set()
        self.deaths: list[Hit] = []
        # Blobs that a crash left: only the sweep of a day later removes them.
        self.crumbs: set[str] = set()
        self._clocks = Clocks(self.folder, find_library())
        self.keeper = Keeper(self._watch)
        self.model = ModelServer(self.backstage, lambda: list(self._worker_pids))
        self.postgres: ChaosPostgres | None = None
        self.wires: list[Wire] = []
        self.port = free_port()
        self.environ = environ_of(self._settings())
        self._client: redis.Redis | None = None
        try:
            self._start()
        except BaseException:
            self.end()
            raise

    # Looks

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def pids(self) -> dict[str, int]:
        """Return the processes that run, by name: those of `wylon up` and the harness's own."""
        found = self.keeper.pids()
        for path in (self.data / "run").glob("*.pid"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                found[path.stem] = int(path.read_text())
        return found

    def workers(self) -> dict[str, int]:
        return {name: pid for name, pid in self.pids().items() if name.startswith("worker-")}

    def redis(self) -> redis.Redis:
        """Return a client that goes around all wires."""
        if self._client is None:
            is_embedded = self.postgres is None
            url = (
                f"redis+socket://{self.data}/run/broker.sock"
                if is_embedded
                else f"redis://127.0.0.1:{self._broker_port}"
            )
            self._client = open_client(read_broker_address(url), 5.0, key_prefix(self.deployment()))
        return self._client

    def deployment(self) -> str:
        """Return the id by which the keys of this house begin."""
        ((deployment,),) = self.rows("SELECT id FROM deployment")
        return str(deployment)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds; its values are marked with `?`."""
        if self.postgres is None:
            with contextlib.closing(sqlite3.connect(self.data / "wylon.db", timeout=10)) as connection:
                return list(connection.execute(query, values))
        with self.postgres.connect() as connection:
            return list(connection.execute(query.replace("?", "%s"), values))  # type: ignore[arg-type]

    def is_up(self) -> bool:
        """Return whether every process is there and the workers report."""
        wanted = {f"{name}@{socket.gethostname()}" for name in ("worker-1", "worker-2", EXTRA_WORKER)}
        names = {"web", "control", "files", "beat", "broker", "worker-1", "worker-2", EXTRA_WORKER}
        try:
            answer = httpx.get(self.base_url.removesuffix("/v1") + "/readyz", timeout=2, trust_env=False)
            reported = {worker.name for worker in RedisRoster(self.redis()).workers()}
        except (httpx.HTTPError, redis.RedisError, OSError, sqlite3.Error, psycopg.Error):
            return False
        return answer.status_code == 200 and wanted <= reported and names <= set(self.pids())

    def await_up(self) -> None:
        until(self.is_up, START_WITHIN_S, "the house is up", every_s=0.2)

    def await_back(self, name: str, killed: int, within_s: float = 30.0) -> None:
        until(lambda: self.pids().get(name) not in (None, killed), within_s, f"{name} is back")

    # Processes beside `wylon up`

    def start_beside(self, name: str, *, skew_s: float | None = None) -> None:
        """Start another worker, control, process of files or beat, by the start of its name.

        With a number it has a clock of its own, so many seconds ahead, that can be set.
        """
        settings = load_settings(self.environ)
        environ = dict(self.environ)
        if name.startswith("worker"):
            command = commands.worker_command(settings, name)
            environ |= self._worker_environ
        elif name.startswith("files"):
            command = [part.replace("files@", f"{name}@") for part in commands.files_command(settings)]
        elif name.startswith("control"):
            command = [part.replace("control@", f"{name}@") for part in commands.control_command(settings)]
        else:
            command = list(commands.beat_command(settings))
        if skew_s is not None:
            self.set_clock(name, skew_s)
            environ |= self._clocks.environ(name)
        self._keep(name, commands.run_by_this_python(command), environ)

    def set_clock(self, name: str, seconds: float) -> None:
        """Have the clock of such a process be so far ahead of the true one, from now on."""
        self._clocks.set(seconds, name)

    def await_worker(self, name: str) -> None:
        def reports() -> bool:
            return any(worker.name.startswith(f"{name}@") for worker in RedisRoster(self.redis()).workers())

        until(reports, START_WITHIN_S, f"{name} reports")

    def end(self) -> None:
        """End everything, politely first."""
        # What the others need goes last.
        order = {"up": 1, "broker": 2, POSTGRES: 3}
        for name in sorted(self.keeper.pids(), key=lambda name: order.get(name, 0)):
            self.keeper.stop(name, signal.SIGINT if name == POSTGRES else signal.SIGTERM)
        self.keeper.close()
        for wire in self.wires:
            wire.close()
        self.model.close()
        self.backstage.close()
        if self._client is not None:
            self._client.close()
        if self.postgres is not None:
            self.postgres.clean_up()
        self.storage.clean_up()
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep_logs(self, folder: Path) -> None:
        """Copy what tells the story of a violation."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in (*self.folder.glob("*.log"), *(self.data / "log").glob("*.log"), *self.data.glob("wylon.db*")):
            with contextlib.suppress(OSError):
                shutil.copy(log, folder / log.name)

    # Start

    def _settings(self) -> Mapping[str, object]:
        return {
            "DATA": self.data,
            "STORAGE_URL": f"file://{self.storage.blobs}",
            "CONFIG": self._write_upstreams(),
            "API_KEY": API_KEY,
            "WORKERS": 2,
            "COMPLETION_WINDOWS": f"24h,{SHORT_WINDOW}",
            "CANCEL_GRACE_S": 1,
            # The model server errs by plan alone: one such answer is enough, once it is known to be the line's fault.
            "MAX_TRIES": 1,
        }

    def _write_upstreams(self) -> Path:
        """Have two upstreams in front of the one model server: a batch has lines for both."""
        path = self.folder / "wylon.toml"
        table = "[upstreams.{name}]\nurls = ['{url}']\nmodels = ['{name}-*']\nmax_in_flight = {calls}\n"
        path.write_text(
            "".join(table.format(name=name, url=self.model.url, calls=CALLS_PER_UPSTREAM) for name in UPSTREAMS)
        )
        return path

    def _start(self) -> None:
        if self.database == POSTGRESQL:
            self._start_servers()
        command = [WYLON, "up", "--host", "127.0.0.1", "--port", str(self.port), "--data", str(self.data)]
        self._keep("up", command, self.environ)
        if self.postgres is None:
            self.worker_broker = self._wire(self.data / "run" / "broker.sock")
            self._worker_environ = {"WYLON_BROKER_URL": f"redis://127.0.0.1:{self.worker_broker.port}/0"}
            self.environ["WYLON_BROKER_URL"] = f"redis+socket://{self.data}/run/broker.sock?virtual_host=0"
        try:
            until(lambda: {"worker-1", "control"} <= set(self.pids()), START_WITHIN_S, "wylon up starts its processes")
        except AssertionError as fault:
            said = (self.folder / "up.log").read_text(errors="replace")
            raise AssertionError(f"{fault}; it said: {said[-_SAID_CHARS:]}") from None
        self.start_beside(EXTRA_WORKER)
        self.await_up()

    def _start_servers(self) -> None:
        self.postgres = ChaosPostgres(self.keeper, self.folder / "postgres.log", free_port())
        self._broker_port = free_port()
        program = embed_broker(self.folder).program
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
        self._keep("broker", [str(program), "--port", str(self._broker_port), *options], environ_of({}))
        self.house_broker, self.worker_broker = self._wire(self._broker_port), self._wire(self._broker_port)
        self.house_database, self.worker_database = self._wire(self.postgres.port), self._wire(self.postgres.port)
        self.environ |= {
            "WYLON_BROKER_URL": f"redis://127.0.0.1:{self.house_broker.port}/0",
            "WYLON_DATABASE_URL": self.postgres.url(self.house_database.port),
        }
        self._worker_environ = {
            "WYLON_BROKER_URL": f"redis://127.0.0.1:{self.worker_broker.port}/0",
            "WYLON_DATABASE_URL": self.postgres.url(self.worker_database.port),
        }

    def _wire(self, target: Path | int) -> Wire:
        wire = Wire(self.backstage, target)
        self.wires.append(wire)
        return wire

    def _keep(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        environ = {**environ, "PYTHONUNBUFFERED": "1"}
        self.keeper.keep(ChildSpec(name, list(command), environ, self.folder, self.folder / f"{name}.log"))

    # Watch

    def _watch(self) -> None:
        """Note workers that come and those that end, whoever ended them."""
        now = time.monotonic()
        # The file of a process that died stays until its supervisor looks.
        self._worker_pids |= {pid for pid in self.workers().values() if processes.is_alive(pid)}
        for pid in list(self._worker_pids):
            if not processes.is_alive(pid):
                self._worker_pids.discard(pid)
                self.deaths.append(Hit(pid, now - _NOTICED_WITHIN_S, now))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
