"""Opens a socket to a server: asks for the addresses of its name, and races them (RFC 8305)."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import aiohappyeyeballs

from app.adapters.upstream.keepalive import keep_alive
from app.adapters.upstream.side_by_side import start

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
Resolve = Callable[[str, int], Sequence[AddressInfo]]

# RFC 8305's: the next address is tried beside one that does not answer within this.
_NEXT_ADDRESS_AFTER_S = 0.25


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses that the system knows for a name, in the order in which it would try them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Connector:
    """Opens sockets to one server; each time it asks anew for the addresses of the name.

    Args:
        host: a name or an address.
        port: its port.
        resolve: asks for addresses, and may take its time.
    """

    def __init__(self, host: str, port: int, resolve: Resolve = resolve) -> None:
        self._host = host
        self._port = port
        self._resolve = resolve
        self._known = _address(host, port)
        self._asked: Future[Sequence[AddressInfo]] | None = None

    async def connect(self) -> socket.socket:
        """Return a socket that is connected; the caller bounds the time.

        Raises:
            OSError: there is no such name, or none of its addresses takes the connection.
        """
        addresses = self._known or await self._addresses()
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S)
        keep_alive(sock)
        return sock

    async def _addresses(self) -> Sequence[AddressInfo]:
        # One question at a time, whoever waits for it: a name server that hangs costs one thread, and none that other
        # work of the loop needs.
        if self._asked is None or self._asked.done():
            self._asked = start(lambda: self._resolve(self._host, self._port))
        addresses = await asyncio.wrap_future(self._asked)
        if not addresses:
            raise OSError(f"the name {self._host} has no address")
        return addresses


def _address(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the one address that a host is; none for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return ()
    # One with a zone is the system's to read.
    if version == 6 and "%" in host:
        return ()
    if version == 6:
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
