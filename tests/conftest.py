"""Fixtures for all tests: a real PostgreSQL, and a umask that a command run within this process does not keep."""

import os
from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Undo what commands do that make every file their owner's alone: other users run servers of tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


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
