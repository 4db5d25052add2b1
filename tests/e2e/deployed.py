"""`wylon up` with the stand-in upstream, as an operator starts it, and clients as callers have them."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from openai import DefaultHttpxClient, OpenAI
from openai.types import Batch

from tests.integration.pipeline import CHAT
from tests.integration.processes import WYLON, Process, environ_of, own_faults, start_upstream, until

API_KEY = "wy-e2e"
ENDED = {"completed", "failed", "expired", "cancelled"}
END_WITHIN_S = 60.0
# What `wylon up` promises.
STOP_WITHIN_S = 10.0


class Deployed:
    """A data folder, and a `wylon up` on the folder, to be stopped and started at will."""

    def __init__(self, folder_name: str = "data", **settings: object) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wylon-"))
        self.data = self.folder / folder_name
        self._settings = {"CONCURRENCY": 8, "MAX_TRIES": 3, "CANCEL_GRACE_S": 1, "API_KEY": API_KEY, **settings}
        self._clients: list[OpenAI] = []
        self._seconds: list[Process] = []
        self.upstream, self.upstream_url = start_upstream(self.folder)
        self.up = self._start()
        self.base_url = self.up.await_address()

    def start(self, port: int | None = 0) -> None:
        """Start `wylon up` again on the same folder, by default at another port."""
        self.up = self._start(port)
        self.base_url = self.up.await_address()

    def start_beside(self) -> Process:
        """Try to start a second `wylon up` on the same folder."""
        second = self._start()
        self._seconds.append(second)
        return second

    def pids(self) -> dict[str, int]:
        """Return the process ids, by name."""
        found = {}
        for path in (self.data / "run").glob("*.pid"):
            try:
                found[path.stem] = int(path.read_text())
            except (FileNotFoundError, ValueError):
                continue
        return found

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and all descendants."""
        supervisor = psutil.Process(self.up.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def client(self, **options: Any) -> OpenAI:
        direct = DefaultHttpxClient(trust_env=False)
        client = OpenAI(base_url=self.base_url, api_key=API_KEY, http_client=direct, **options)
        self._clients.append(client)
        return client

    def await_rest(self, client: OpenAI) -> None:
        """Wait until every batch has ended, so that no batch of an earlier test adds a file or a blob."""
        until(
            lambda: all(batch.status in ENDED for batch in client.batches.list()), END_WITHIN_S, "every batch has ended"
        )

    def blobs(self) -> set[Path]:
        """Return the files in the storage."""
        return {path for path in (self.data / "blobs").rglob("*") if path.is_file()}

    def end(self) -> None:
        for client in self._clients:
            client.close()
        for process in (*self._seconds, self.up):
            process.end()
        self.upstream.end()
        faults = own_faults(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not faults

    def _start(self, port: int | None = 0) -> Process:
        command = [WYLON, "up", "--port", str(port), "--data", str(self.data), "--upstream", self.upstream_url]
        # Each start has a separate log, to find the address in.
        log = self.folder / f"up-{len(list(self.folder.glob('up-*')))}.log"
        return Process(command, log, environ_of(self._settings), self.folder)


def submit(client: OpenAI, lines: Iterable[bytes]) -> Batch:
    """Upload the lines and create a batch of them."""
    file = client.files.create(file=("in.jsonl", b"\n".join(lines) + b"\n"), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def await_end(client: OpenAI, batch_id: str, within_s: float = END_WITHIN_S) -> Batch:
    def look() -> Batch | None:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ENDED else None

    return until(look, within_s, f"{batch_id} ends")


def await_completed(client: OpenAI, batch_id: str, lines: int) -> None:
    """Return once `lines` lines of a batch are counted as completed."""

    def look() -> bool:
        counts = client.batches.retrieve(batch_id).request_counts
        return counts is not None and counts.completed >= lines

    until(look, END_WITHIN_S, f"{lines} lines are completed")


def content_lines(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
