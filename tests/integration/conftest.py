"""One running deployment for each module and database."""

from collections.abc import Iterator

import pytest

from tests.integration.pipeline import Pipeline
from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def module_database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The address of an empty database for the whole module, None for the file that is the default.

    Parametrized by the modules that use it, with "sqlite" or "postgresql".
    """
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("_postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(scope="module")
def pipeline(module_database: str | None) -> Iterator[Pipeline]:
    pipeline = Pipeline(module_database)
    try:
        pipeline.start("control", "files", "worker-1", "worker-2", "beat")
        yield pipeline
    finally:
        pipeline.end()
