"""Each database by which races are decided, and any number of sides that reach it by connections of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.races.sides import Side

OpenSide = Callable[[], Side]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenSide]:
    """Opens sides, each time by connections of their own; clock, blobs and database are shared."""
    url = f"sqlite:///{tmp_path / 'wylon.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    clock = FakeClock()
    blobs = MemoryBlobs(clock)
    engines = []

    def open_more() -> Side:
        engine = open_engine(url)
        engines.append(engine)
        if len(engines) == 1:
            migrate(engine)
        stores = (SqlFileStore(engine), SqlBatchStore(engine), SqlResultStore(engine), SqlIdempotencyStore(engine))
        return Side(engine, *stores, blobs, clock)

    yield open_more
    for engine in engines:
        engine.dispose()


@pytest.fixture
def one(open_side: OpenSide) -> Side:
    return open_side()


@pytest.fixture
def other(one: Side, open_side: OpenSide) -> Side:
    return open_side()
