"""Names with several addresses, and name servers that are slow."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from app.adapters.upstream.connecting import AddressInfo, Connector
from app.adapters.upstream.faults import CannotConnect, ConnectTimedOut
from app.adapters.upstream.pool import Pool
from app.adapters.upstream.target import read_target
from tests.unit.adapters.upstream_server import always, answer, never_accepting, on_uvloop, refusing, serving

LONG_S = 20.0


def address(url: str) -> AddressInfo:
    target = read_target(url)
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (target.host, target.port))


@pytest.fixture
def silent() -> Iterator[AddressInfo]:
    with never_accepting() as url:
        yield address(url)


@pytest.fixture
def closed() -> Iterator[AddressInfo]:
    with refusing() as url:
        yield address(url)


def connect(before: list[AddressInfo], after: list[AddressInfo]) -> tuple[str, int]:
    """Return the port that was connected to, of a name with a server that answers among these addresses."""

    async def run() -> tuple[int, int]:
        async with serving(always(answer(b"{}"))) as url:
            good = address(url)
            connector = Connector("models", 80, lambda host, port: [*before, good, *after])
            async with asyncio.timeout(LONG_S):
                with await connector.connect() as sock:
                    return sock.getpeername()[1], good[4][1]

    return on_uvloop(run())


def test_an_address_that_is_silent_is_passed_by(silent):
    reached, good = connect([silent], [silent])

    assert reached == good


def test_addresses_that_refuse_are_passed_by(closed, silent):
    reached, good = connect([closed, silent, closed], [])

    assert reached == good


def test_all_addresses_are_tried_within_the_time_to_connect(silent, closed):
    async def run() -> None:
        pool = pool_with(lambda host, port: [silent, closed, silent], connect_timeout_s=1.0)
        with pytest.raises(ConnectTimedOut):
            await pool.connect(LONG_S)

    on_uvloop(run())


def test_a_name_all_of_whose_addresses_refuse_is_refused(closed):
    async def run() -> None:
        with pytest.raises(CannotConnect, match="ConnectionRefusedError"):
            await pool_with(lambda host, port: [closed, closed]).connect(LONG_S)

    on_uvloop(run())


def test_a_name_without_an_address_is_told():
    async def run() -> None:
        with pytest.raises(CannotConnect, match="models has no address"):
            await pool_with(lambda host, port: []).connect(LONG_S)

    on_uvloop(run())


def test_a_name_server_that_hangs_costs_the_time_to_connect_and_one_thread():
    asked = []
    answers = threading.Event()

    def resolve(host: str, port: int) -> list[AddressInfo]:
        asked.append(host)
        answers.wait(LONG_S)
        raise socket.gaierror("too late")

    async def run() -> None:
        pool = pool_with(resolve, connect_timeout_s=0.05)
        for _ in range(3):
            failed = await asyncio.gather(*(pool.connect(LONG_S) for _ in range(10)), return_exceptions=True)
            assert {type(each) for each in failed} == {ConnectTimedOut}

    try:
        on_uvloop(run())
    finally:
        answers.set()

    assert asked == ["models"]


def test_a_name_is_asked_for_anew_for_new_connections():
    asked = []

    async def run() -> None:
        async with serving(always(answer(b"{}"))) as url:

            def resolve(host: str, port: int) -> list[AddressInfo]:
                asked.append((host, port))
                return [address(url)]

            connector = Connector("models", 80, resolve)
            for _ in range(2):
                (await connector.connect()).close()

    on_uvloop(run())

    assert asked == [("models", 80)] * 2


def test_an_address_is_not_asked_for():
    def resolve(host: str, port: int) -> list[AddressInfo]:
        raise AssertionError(host)

    async def run() -> None:
        async with serving(always(answer(b"{}"))) as url:
            target = read_target(url)
            (await Connector(target.host, target.port, resolve).connect()).close()

    on_uvloop(run())


def test_a_connection_is_watched_by_the_system_and_sends_at_once():
    async def run() -> None:
        async with serving(always(answer(b"{}"))) as url:
            target = read_target(url)
            with await Connector(target.host, target.port).connect() as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    on_uvloop(run())


def pool_with(resolve, *, connect_timeout_s: float = LONG_S) -> Pool:
    return Pool(
        read_target("http://models/v1"),
        connect_timeout_s=connect_timeout_s,
        silence_s=LONG_S,
        max_body_bytes=1_000,
        resolve=resolve,
    )
