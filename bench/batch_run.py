"""Run a batch through the public API, and read the times of its stages."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.processes import API_KEY, Deployment

ENDPOINT = "/v1/chat/completions"
# Often enough for progress, seldom enough to leave the CPU to the measured processes: times come from the database.
_POLL_S = 0.25
_ENDED = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True)
class Times:
    """Seconds of a batch from the create request to `completed`, in total and by stage."""

    total_s: float
    validate_s: float
    run_s: float
    finalize_s: float


class BatchRun:
    """A batch; the constructor uploads the file, and `create` starts the clock."""

    def __init__(self, deployed: Deployment, path: Path) -> None:
        self._deployed = deployed
        self._client = httpx.Client(
            base_url=deployed.url, headers={"authorization": f"Bearer {API_KEY}"}, timeout=120, trust_env=False
        )
        with path.open("rb") as file:
            answer = self._client.post("/files", data={"purpose": "batch"}, files={"file": (path.name, file)})
        self._file_id = _json(answer)["id"]
        self.id = ""
        self._began_at = 0.0

    def __enter__(self) -> "BatchRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def create(self) -> None:
        """Create the batch."""
        self._began_at = time.time()
        wanted = {"input_file_id": self._file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
        self.id = _json(self._client.post("/batches", json=wanted))["id"]

    def wait(
        self,
        within_s: float,
        on_poll: Callable[[dict[str, Any]], None] | None = None,
        *,
        until: Collection[str] = _ENDED,
    ) -> dict[str, Any]:
        """Poll until the batch has a status of `until`; return the batch. TimeoutError after `within_s`."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            batch = _json(self._client.get(f"/batches/{self.id}"))
            if on_poll is not None:
                on_poll(batch)
            if batch["status"] in until:
                return batch
            time.sleep(_POLL_S)
        raise TimeoutError(f"The batch did not come so far within {within_s:g} s: {json.dumps(batch)}")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the batch was created."""
        return time.time() - self._began_at

    def times(self) -> Times:
        """Return the times of a completed batch, from the database: the API's instants are whole seconds."""
        with closing(sqlite3.connect(f"file:{self._deployed.data / 'wylon.db'}?mode=ro", uri=True)) as database:
            started, ended, completed = database.execute(
                "SELECT in_progress_at, finalizing_at, completed_at FROM batches WHERE id = ?", (self.id,)
            ).fetchone()
        return Times(completed - self._began_at, started - self._began_at, ended - started, completed - ended)

    def output_lines(self, file_id: str | None) -> Iterator[str]:
        """Yield the lines of an output or error file, streamed; empty if the batch has no file."""
        if file_id is None:
            return
        with self._client.stream("GET", f"/files/{file_id}/content") as answer:
            answer.raise_for_status()
            yield from answer.iter_lines()


def require_completed(batch: dict[str, Any], lines: int) -> None:
    """Raise unless the batch completed every line."""
    counts = batch["request_counts"]
    if batch["status"] != "completed" or counts != {"total": lines, "completed": lines, "failed": 0}:
        raise RuntimeError(f"The batch should have completed {lines} lines: {json.dumps(batch)}")


def _json(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    found: dict[str, Any] = answer.json()
    return found
