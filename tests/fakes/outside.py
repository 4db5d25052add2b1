"""Doubles of what is neither a store nor ours: blobs, the clock, the models."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.retry import Trouble
from app.services.ports import ANYBODY, Answer, Caller

PIECE_BYTES = 1024 * 1024
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now
        self._passed_s = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds
        self._passed_s += seconds

    def step(self, seconds: float) -> None:
        """Set the time of day, while no time passes."""
        self.time += seconds


class MemoryBlobs:
    """Blobs in a dictionary; `capacity` is how many bytes fit in all, None for no end.

    The blobs of `stuck` can't be deleted; with `is_away` no blob can, and the check fails.
    """

    def __init__(self, clock: FakeClock | None = None, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.stuck: set[str] = set()
        self.is_away = False
        self.stored: dict[str, bytes] = {}
        self._clock = clock or FakeClock()
        self._written_at: dict[str, float] = {}
        self._parts = count()

    @property
    def unfinished(self) -> set[str]:
        """What was begun, and neither committed nor discarded."""
        return self._written_at.keys() - self.stored.keys()

    def create(self, key: str) -> "MemoryBlobWriter":
        _check_key(key)
        part = f".part/{next(self._parts)}"
        self._written_at[part] = self._clock.now()
        return MemoryBlobWriter(self, key, part)

    def size(self, key: str) -> int:
        return len(self._get(key))

    def read(self, key: str, offset: int, length: int) -> bytes:
        return self._get(key)[offset : offset + length]

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, piece_bytes: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        data = self._get(key)
        end = len(data) if length is None else min(offset + length, len(data))
        return (data[at : min(at + piece_bytes, end)] for at in range(offset, end, piece_bytes))

    def delete(self, key: str) -> None:
        if key not in self.unfinished:
            _check_key(key)
        if self.is_away or key in self.stuck:
            raise Unavailable(f"The blob {key} can't be deleted.")
        self.stored.pop(key, None)
        self._written_at.pop(key, None)

    def check(self) -> None:
        if self.is_away:
            raise Unavailable("The storage is away.")

    def stale(self, age_s: float) -> Iterator[str]:
        before = self._clock.now() - age_s
        yield from [key for key, written_at in self._written_at.items() if written_at < before]

    def put(self, key: str, data: bytes) -> None:
        """Store a blob in one step, for arranging tests."""
        writer = self.create(key)
        writer.write(data)
        writer.commit()

    def _get(self, key: str) -> bytes:
        _check_key(key)
        try:
            return self.stored[key]
        except KeyError:
            raise BlobMissing(f"There is no blob {key}.") from None

    def _store(self, key: str, data: bytes) -> None:
        self.stored[key] = data
        self._written_at[key] = self._clock.now()


class MemoryBlobWriter:
    """A blob of MemoryBlobs that is being written."""

    def __init__(self, blobs: MemoryBlobs, key: str, part: str) -> None:
        self._blobs = blobs
        self._key = key
        self._part = part
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        used = sum(map(len, self._blobs.stored.values())) + len(self._data)
        if self._blobs.capacity is not None and used + len(data) > self._blobs.capacity:
            raise StorageFull("No room is left for files.")
        self._data += data
        return len(data)

    def commit(self) -> None:
        self._blobs._store(self._key, bytes(self._data))
        self.discard()

    def discard(self) -> None:
        self._blobs._written_at.pop(self._part, None)


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob: write name/name")


@dataclass
class FakeCatalog:
    """Serves the models with these ids; with `failure` set it raises that instead."""

    ids: Sequence[str] = ("small",)
    failure: Exception | None = None

    def models(self) -> list[dict[str, object]]:
        if self.failure is not None:
            raise self.failure
        return [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.ids]


def good_answer(body: bytes = b'{"object":"chat.completion"}') -> Answer:
    """Return the answer of a model that did what it was asked."""
    return Answer(Trouble.NONE, 200, "upstream-1", body)


class ScriptedUpstream:
    """Answers from a script.

    `script` is answers in order, after which `otherwise` is given for ever; or a function of the body. An entry that
    is an exception is raised.
    """

    def __init__(
        self,
        script: Sequence[Answer | BaseException] | Callable[[bytes], Answer] = (),
        otherwise: Answer | None = None,
    ) -> None:
        self.calls: list[tuple[str, bytes, float]] = []
        self._by_body = script if callable(script) else None
        self._entries = [] if callable(script) else list(script)
        self._otherwise = otherwise or good_answer()

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        self.calls.append((endpoint, body, timeout_s))
        if self._by_body is not None:
            return self._by_body(body)
        entry = self._entries.pop(0) if self._entries else self._otherwise
        if isinstance(entry, BaseException):
            raise entry
        return entry
