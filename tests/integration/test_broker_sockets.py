"""Every connection to the broker is kept alive by the kernel, whoever opened it."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.adapters.broker.connections import open_client
from app.adapters.queue import open_sender
from app.domain.broker_address import BrokerAddress, read_broker_address
from tests.integration.brokers import WatchedServers, folder_of_its_own, make_certificate, open_server, tls_before

pytestmark = pytest.mark.integration

_NOTICED_WITHIN_S = 60


@pytest.fixture(params=["tcp", "tls", "sentinels"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerAddress]:
    if request.param == "sentinels":
        with folder_of_its_own() as folder:
            servers = WatchedServers(folder)
            yield read_broker_address(servers.url)
            servers.end()
        return
    with open_server() as port:
        if request.param == "tcp":
            yield read_broker_address(f"redis://127.0.0.1:{port}/0")
            return
        if shutil.which("openssl") is None:
            pytest.skip("the openssl command makes the certificate")
        certificate, context = make_certificate(tmp_path)
        with tls_before(port, context) as tls_port:
            yield read_broker_address(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")


def of_our_own(address: BrokerAddress) -> redis.ConnectionPool:
    return open_client(address, 10.0).connection_pool


def of_messages(address: BrokerAddress) -> redis.ConnectionPool:
    channel: Any = open_sender(address, "some").connection_for_write().channel()
    return channel.pool


def of_the_request_for_messages(address: BrokerAddress) -> redis.ConnectionPool:
    channel: Any = open_sender(address, "some").connection_for_read().channel()
    return channel.async_pool


def of_the_chords(address: BrokerAddress) -> redis.ConnectionPool:
    backend: Any = open_sender(address, "some").backend
    return backend.client.connection_pool


@pytest.mark.parametrize("pool_of", [of_our_own, of_messages, of_the_request_for_messages, of_the_chords])
def test_a_broker_that_falls_silent_is_noticed_within_a_minute(
    address: BrokerAddress, pool_of: Callable[[BrokerAddress], redis.ConnectionPool]
) -> None:
    pool = pool_of(address)
    connection: Any = pool.get_connection()
    try:
        taken = connection._sock
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        idle, interval, count = (taken.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names)
        assert idle + interval * count <= _NOTICED_WITHIN_S
        unacknowledged_ms = taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 0 < unacknowledged_ms <= _NOTICED_WITHIN_S * 1_000
        assert taken.gettimeout() is None or taken.gettimeout() <= _NOTICED_WITHIN_S
    finally:
        pool.release(connection)
        pool.disconnect()
