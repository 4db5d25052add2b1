"""Fixtures that need a process of their own: a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_url(_postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a database that is empty and this test's alone."""
    name = _postgres_server.create_database()
    yield _postgres_server.url(name)
    _postgres_server.drop_database(name)
