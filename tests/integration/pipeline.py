"""A deployment without the API: a real Valkey, the stand-in upstream, and the real Celery processes."""

import json
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from app.adapters.broker.connections import open_client
from app.adapters.queue import CeleryQueue, open_sender
from app.adapters.roster import RedisRoster
from app.cli.up import processes as commands
from app.cli.up.broker import embed_broker
from app.config import Settings, load_settings
from app.domain.batch import Batch
from app.domain.lifecycle import TERMINAL
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.batches import BatchRequest, BatchService
from app.services.files import FileService
from app.services.keys import DEFAULT_TENANT
from app.wiring.setup import prepare
from app.wiring.stores import Stores, open_redis, open_stores
from tests.clocks import Clocks
from tests.integration.processes import START_WITHIN_S, Process, environ_of, own_faults, start_upstream, until

TENANT = DEFAULT_TENANT
CHAT = "/v1/chat/completions"
CONCURRENCY = 8
CANCEL_GRACE_S = 1.0
# Long enough for some lines to be done on a busy machine.
SHORT_WINDOW = "8s"
END_WITHIN_S = 60.0
# Of each log, where a batch stands still.
_BARE_TIMEOUT_S = 4.0
_SHOWN_CHARS = 3_000
# Whatever proxy the machine has is not for its own addresses.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def request_line(custom_id: str, content: str, model: str = "echo") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}).encode()


def request_lines(count: int, mark: str = "") -> list[bytes]:
    """Return so many lines whose content is the mark and their number."""
    return [request_line(f"id-{number}", f"{mark} {number}") for number in range(count)]


class Pipeline:
    """The processes and what tests look at; any process can be ended and started again by its name.

    Without a configuration file there is one upstream, the stand-in, and as many calls to it as there may be: what a
    limit that adapts has learned from one test must not count in those that follow.
    """

    def __init__(
        self,
        database_url: str | None,
        *,
        lines_per_task: str = "auto",
        config: Path | None = None,
        broker_url: str | None = None,
        environ: Mapping[str, str] | None = None,
        library: Path | None = None,
    ) -> None:
        # Short, and in the system's folder: the path of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="wylon-"))
        self.processes: dict[str, Process] = {}
        # With a library that fakes the time, each kind of process has a clock that a test sets.
        self.clocks = Clocks(self.folder, library) if library else None
        self._environ = environ_of({})
        if broker_url is None:
            broker = embed_broker(self.folder)
            self.processes["broker"] = self._run("broker", broker.command())
            broker_url = broker.url
        self.processes["upstream"], upstream_url = start_upstream(self.folder)
        given: dict[str, object] = {
            "DATA": self.folder,
            "BROKER_URL": broker_url,
            "CONFIG": config or self._configure(upstream_url),
            "CONCURRENCY": CONCURRENCY,
            "CANCEL_GRACE_S": CANCEL_GRACE_S,
            "COMPLETION_WINDOWS": f"24h,{SHORT_WINDOW}",
            "LINES_PER_TASK": lines_per_task,
            "MAX_TRIES": 3,
            "LOG_LEVEL": "info",
            **({"DATABASE_URL": database_url} if database_url else {}),
        }
        self._environ = {**environ_of(given), **(environ or {})}
        self.settings: Settings = load_settings(self._environ)
        (self.folder / "run").mkdir()
        prepare(self.settings)
        self.stores: Stores = open_stores(self.settings)
        self.redis: redis.Redis = open_redis(self.settings, self.stores.deployment.id)
        until(self._answers, START_WITHIN_S, "the broker answers")
        self.sender = open_sender(self.settings.broker, self.stores.deployment.id)
        self.queue = CeleryQueue(self.sender, self.redis, self.settings.upstream_names)
        stores = self.stores
        self.files = FileService(stores.files, stores.blobs, stores.clock, stores.idempotency)
        self.batches = BatchService(
            stores.batches,
            stores.files,
            self.queue,
            stores.clock,
            stores.idempotency,
            endpoints=self.settings.endpoints,
            windows=self.settings.completion_windows,
        )

    def _run(self, name: str, command: Sequence[str]) -> Process:
        clock = self.clocks.environ(name.partition("-")[0]) if self.clocks else {}
        return Process(command, self.folder / f"{name}.log", {**self._environ, **clock}, self.folder)

    def _configure(self, upstream_url: str) -> Path:
        path = self.folder / "wylon.toml"
        path.write_text(f'[upstreams.{DEFAULT_UPSTREAM}]\nurls = ["{upstream_url}"]\nadaptive = false\n')
        return path

    def bare_redis(self) -> redis.Redis:
        """Return a client that sees the keys of all."""
        return open_client(self.settings.broker, _BARE_TIMEOUT_S)

    def start(self, *names: str) -> None:
        """Start `control`, `files`, `beat` or workers; returns once they are up."""
        for name in names:
            self.processes[name] = self._run(name, commands.run_by_this_python(self._command(name)))
        wanted = {f"{name}@{socket.gethostname()}" for name in names if name.startswith("worker")}
        until(lambda: wanted <= self.workers(), START_WITHIN_S, f"{sorted(wanted)} report")

    def ensure(self, *names: str) -> None:
        """Have these run, whatever the test before has ended."""
        self.start(*(name for name in names if name not in self.processes or self._is_over(name)))

    def workers(self) -> set[str]:
        return {worker.name for worker in RedisRoster(self.redis).workers()}

    def lines_paused(self) -> int:
        """Return how many lines wait in the workers to be tried again."""
        return sum(lane.lines_paused for worker in RedisRoster(self.redis).workers() for lane in worker.lanes.values())

    def tasks_held(self) -> int:
        """Return how many tasks the workers hold."""
        return sum(len(worker.held_tasks) for worker in RedisRoster(self.redis).workers())

    def submit(self, lines: Iterable[bytes], *, window: str = "24h") -> str:
        """Upload the lines and create a batch of them; return its id."""
        upload = self.files.begin()
        upload.write(b"\n".join(lines) + b"\n")
        file = self.files.create(TENANT, upload, purpose="batch", filename="in.jsonl")
        return self.batches.create(TENANT, BatchRequest(file.id, CHAT, window)).id

    def batch(self, batch_id: str) -> Batch:
        return self.batches.get(TENANT, batch_id)

    def await_recorded(self, batch_id: str, lines: int) -> None:
        """Return once so many lines have a result."""
        until(lambda: self.batch(batch_id).recorded >= lines, END_WITHIN_S, f"{lines} lines are recorded")

    def await_end(self, batch_id: str) -> Batch:
        """Return the batch once it has ended."""

        def look() -> Batch | None:
            batch = self.batch(batch_id)
            return batch if batch.status in TERMINAL else None

        try:
            return until(look, END_WITHIN_S, f"{batch_id} ends")
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{self._state(batch_id)}") from None

    def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of an output or error file; none where the batch has no such file."""
        if file_id is None:
            return []
        content = self.files.content(TENANT, file_id)
        return [json.loads(line) for line in b"".join(content.stream()).splitlines()]

    def upstream_stats(self) -> dict[str, Any]:
        return stats_of(self.settings.upstreams[0].urls[0])

    def reset_upstream_stats(self) -> None:
        _ask(self.settings.upstreams[0].urls[0], "/stats/reset", b"")

    def restart_upstream(self) -> None:
        """Start the model server where it was before."""
        port = urlsplit(self.settings.upstreams[0].urls[0]).port
        assert port is not None
        self.processes["upstream"], _ = start_upstream(self.folder, port=port)

    def end(self) -> None:
        """End all and leave nothing behind."""
        others = [process for name, process in self.processes.items() if name != "broker"]
        for process in [*others, *(self.processes[name] for name in ("broker",) if name in self.processes)]:
            process.end()
        self.sender.close()
        self.redis.close()
        self.stores.engine.dispose()
        faults = own_faults(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not faults

    def _state(self, batch_id: str) -> str:
        """Return what there is to see of a batch that stands still."""
        said = [str(self.batch(batch_id)), *map(str, RedisRoster(self.redis).workers())]
        for key in sorted(self.redis.scan_iter(match="lines*")):
            said.append(f"{key!r}: {self.redis.llen(key)} messages")
        said.append(f"unacknowledged: {[message.task_id for message in self.queue.unacked(100)]}")
        said.append(f"upstream: {self.upstream_stats()}")
        for log in sorted(self.folder.glob("*.log")):
            said.append(f"{log.name}:\n{log.read_text(errors='replace')[-_SHOWN_CHARS:]}")
        return "\n".join(said)

    def _command(self, name: str) -> tuple[str, ...]:
        if name == "control":
            return tuple(commands.control_command(self.settings))
        if name == "files":
            return tuple(commands.files_command(self.settings))
        if name.startswith("beat"):
            return tuple(commands.beat_command(self.settings))
        return tuple(commands.worker_command(self.settings, name))

    def _is_over(self, name: str) -> bool:
        return self.processes[name].exit_code is not None

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False


def stats_of(upstream_url: str) -> dict[str, Any]:
    """Return what a stand-in says that it did."""
    return _ask(upstream_url, "/stats")


def _ask(upstream_url: str, path: str, data: bytes | None = None) -> dict[str, Any]:
    with _DIRECT.open(upstream_url.removesuffix("/v1") + path, data, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def custom_ids(lines: Iterable[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in lines]
