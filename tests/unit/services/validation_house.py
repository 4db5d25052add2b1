"""A validation service over fakes, and one batch that waits for it."""

import json
from dataclasses import dataclass, field

from app.domain.batch import Batch, LineError
from app.domain.file import File
from app.domain.lifecycle import Status
from app.domain.plan import unpack_entries
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Blobs
from app.services.validation import ValidationService
from tests.fakes.database import MemoryDatabase
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore

CHAT = "/v1/chat/completions"


def request(custom_id: object, *, model: str = "small", url: str = CHAT, **body: object) -> bytes:
    given_body = {"model": model, "messages": [], **body}
    return json.dumps({"custom_id": str(custom_id), "method": "POST", "url": url, "body": given_body}).encode()


@dataclass
class House:
    """A validation service over fakes, with one batch that waits for it."""

    pinned: int | None = None
    models: tuple[str, ...] = ("small", "large")
    groups_at_once: int = 1
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        database = MemoryDatabase()
        self.batches = MemoryBatchStore(database)
        self.files = MemoryFileStore(database)
        self.blobs = MemoryBlobs(self.clock)
        self.service = self.service_over(self.blobs)

    def service_over(self, blobs: Blobs) -> ValidationService:
        """Return a service that keeps and reads blobs elsewhere."""
        return ValidationService(
            self.batches,
            blobs,
            self.clock,
            route=self.route,
            pinned_lines_per_task=self.pinned,
            groups_at_once=self.groups_at_once,
        )

    def route(self, model: str | None, endpoint: str) -> str | None:
        return DEFAULT_UPSTREAM if model is None or model in self.models else None

    def arrange(self, data: bytes, endpoint: str = CHAT) -> None:
        self.blobs.put("files/in", data)
        self.files.add(File("file-in", "tenant", "batch", "in.jsonl", len(data), "files/in", self.clock.now()))
        self.arrange_batch("batch_1", endpoint)

    def arrange_batch(self, batch_id: str, endpoint: str = CHAT) -> None:
        """Add one more batch of the same file."""
        now = self.clock.now()
        waits = Status.VALIDATING
        self.batches.add(
            Batch(batch_id, "tenant", endpoint, "file-in", "24h", waits, now, now + 9, input_blob="files/in")
        )

    @property
    def batch(self) -> Batch:
        batch = self.batches.find("batch_1")
        assert batch is not None
        return batch

    def errors_of(self, data: bytes, endpoint: str = CHAT) -> tuple[LineError, ...]:
        self.arrange(data, endpoint)
        assert self.service.validate("batch_1") is False
        assert self.batch.status is Status.FAILED
        self.assert_nothing_left()
        return self.batch.errors

    def planned_of(self, data: bytes, endpoint: str = CHAT) -> list[bytes]:
        """Return the lines that the plan of an accepted batch leads to."""
        self.arrange(data, endpoint)
        assert self.service.validate("batch_1") is True
        assert self.batch.plan_blob is not None
        entries = list(unpack_entries(self.blobs.stored[self.batch.plan_blob]))
        assert len(entries) == self.batch.total
        return [self.blobs.read("files/in", entry.offset, entry.length) for entry in entries]

    def assert_nothing_left(self) -> None:
        assert set(self.blobs.stored) <= {"files/in", "verdicts/in"}
        assert self.blobs.unfinished == set()
