"""Opens a socket to a server: resolves the host name, and races the addresses (RFC 8305)."""

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

# The delay of RFC 8305: if an address does not answer within this time, the next address is tried in parallel.
_NEXT_ADDRESS_AFTER_S = 0.25


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses that the system knows for a name, in the order in which the system would try them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Connector:
    """Opens sockets to one server, and resolves the host name anew for each socket.

    Args:
        host: a name or an address.
        port: the port of the server.
        resolve: returns the addresses of a name, and may block for long.
    """

    def __init__(self, host: str, port: int, resolve: Resolve = resolve) -> None:
        self._host = host
        self._port = port
        self._resolve = resolve
        self._known = _address(host, port)
        self._asked: Future[Sequence[AddressInfo]] | None = None

    async def connect(self) -> socket.socket:
        """Return a connected socket; the caller bounds the time.

        Raises:
            OSError: the name does not exist, or no address takes the connection.
        """
        addresses = self._known or await self._addresses()
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S)
        keep_alive(sock)
        return sock

    async def _addresses(self) -> Sequence[AddressInfo]:
        # Callers share a single look-up: a name server that hangs costs one thread, and not a thread that the event
        # loop needs for other work.
        if self._asked is None or self._asked.done():
            self._asked = start(lambda: self._resolve(self._host, self._port))
        addresses = await asyncio.wrap_future(self._asked)
        if not addresses:
            raise OSError(f"the name {self._host} has no address")
        return addresses


def _address(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the host as the only address, or an empty tuple where the host is a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return ()
    # Only the system can read an address with a zone.
    if version == 6 and "%" in host:
        return ()
    if version == 6:
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
