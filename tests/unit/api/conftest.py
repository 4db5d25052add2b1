"""The app over fakes, and two callers of it."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from app.api.application import build_app
from app.domain.api_key import ApiKey, keyed_hash, plain_hash
from app.domain.errors import Unavailable
from app.services.batches import BatchService
from app.services.files import FileService
from app.services.keys import KeyService
from tests.fakes.broker import RecordingQueue
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore, MemoryKeyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore

KEY = "wy-one"
OTHER_KEY = "wy-two"
SECRET = b"the secret of the hashes of keys"


@dataclass
class Catalog:
    """A catalog whose models a test chooses; None for upstreams that do not answer."""

    listed: list[dict[str, object]] | None = field(default_factory=lambda: [{"id": "org/small"}])

    def models(self) -> list[dict[str, object]]:
        if self.listed is None:
            raise Unavailable("The upstream does not answer.")
        return self.listed


@dataclass
class World:
    """Everything behind the API, and the services over it."""

    clock: FakeClock = field(default_factory=FakeClock)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    queue: RecordingQueue = field(default_factory=RecordingQueue)
    catalog: Catalog = field(default_factory=Catalog)
    key_store: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    endpoints: tuple[str, ...] = ("/v1/chat/completions", "/v1/embeddings")
    windows: tuple[str, ...] = ("24h",)
    cors_origins: tuple[str, ...] = ()
    readiness: Mapping[str, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file_store, self.batch_store = MemoryFileStore(self.database), MemoryBatchStore(self.database)
        idempotency = MemoryIdempotencyStore(self.database)
        self.files = FileService(self.file_store, self.blobs, self.clock, idempotency)
        self.batches = BatchService(
            self.batch_store,
            self.file_store,
            self.queue,
            self.clock,
            idempotency,
            endpoints=self.endpoints,
            windows=self.windows,
        )
        self.keys = KeyService(self.key_store, self.clock, SECRET)
        self.keys.ensure(KEY)
        other = ApiKey("key_other", "other", "other", "…", 0.0)
        self.key_store.add(other, keyed_hash(SECRET, plain_hash(OTHER_KEY)))

    @property
    def is_empty(self) -> bool:
        """Whether no file and no blob is left, finished or not."""
        return not (self.database.files or self.blobs.stored or self.blobs.unfinished)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def app(world: World) -> Flask:
    return build_app(world)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return caller(app, KEY)


@pytest.fixture
def other_client(app: Flask) -> FlaskClient:
    return caller(app, OTHER_KEY)


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    return app.test_client()


def caller(app: Flask, key: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client
