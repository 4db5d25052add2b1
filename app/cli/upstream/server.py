"""The stand-in's HTTP server, with as little work per request as Python allows: it runs on the measured host."""

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, cast

import httptools

from app.cli.upstream import pieces, replies
from app.cli.upstream.answers import ENDPOINTS, RequestInvalid, error_body, list_models
from app.cli.upstream.desk import Desk, Pace, Visit
from app.cli.upstream.door import Door
from app.cli.upstream.faults import MARK, Fault, FaultPlan
from app.cli.upstream.replies import SENSELESS, Reply
from app.cli.upstream.stats import Stats

SLOW_PIECES = 10
SLOW_PAUSE_S = 0.2
# How long the fault `down` shuts the door.
DOWN_S = 2.0
# Closing a socket with a linger time of 0 s sends a reset instead of a normal end.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Service:
    """The state that connections share."""

    # Set before the first connection comes in.
    door: Door

    def __init__(self, pace: Pace, faults: FaultPlan, stats: Stats) -> None:
        self.stats = stats
        self.faults = faults
        self.desk = Desk(pace, stats)
        self.pace = pace
        self.is_immediate = pace.is_immediate and faults.is_empty

    def answer(self, url: bytes, body: bytes) -> Reply:
        """Return the answer of an endpoint; an invalid body gets a 400."""
        try:
            return replies.ok(ENDPOINTS[url](body))
        except RequestInvalid as fault:
            return replies.with_status(400, error_body(fault.message, "invalid_request_error", param=fault.param))

    def answer_other(self, method: bytes, url: bytes) -> Reply:
        """Return the answer to a request outside the model endpoints."""
        if method == b"GET" and url == b"/v1/models":
            return replies.ok(list_models())
        if method == b"GET" and url == b"/stats":
            report = self.stats.report(self.desk.queued, self.pace.capacity)
            return replies.ok(json.dumps({**report, "by_fault": dict(self.faults.asked)}).encode())
        if method == b"POST" and url == b"/stats/reset":
            self.stats.reset()
            self.faults.forget()
            return replies.ok(b"{}")
        if url in ENDPOINTS:
            return replies.with_status(405, error_body("Use POST here.", "invalid_request_error"))
        name = f"{method.decode('latin-1')} {url.decode('latin-1')}"
        return replies.with_status(404, error_body(f"Unknown request URL: {name}.", "invalid_request_error"))


class Asked(NamedTuple):
    """A received request."""

    method: bytes
    url: bytes
    body: bytes
    is_last: bool


class Connection(asyncio.Protocol):
    """A connection: parses requests and answers in order, a single request at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # The parser calls the on_… methods below; missing methods, for example on_header, cost no time.
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._waiting: deque[Asked] = deque()
        self._visit: Visit | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: a server's transport can write, but uvloop's class is no subclass of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._service.door.came_in(self._transport)
        self._is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._service.door.went_out(self._transport)
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        if self._visit is not None:
            self._service.desk.leave(self._visit)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            body = error_body("This is no HTTP/1.1 request.", "invalid_request_error")
            self._transport.write(replies.with_status(400, body).data)
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        """Keep the path; a long path may come in pieces."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or queue the request behind an unfinished answer."""
        pieces, url = self._body, self._url
        self._body, self._url = [], b""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        asked = Asked(self._parser.get_method(), url, body, not self._parser.should_keep_alive())
        if self._visit is None and self._sending is None:
            self._take(asked)
        else:
            self._waiting.append(asked)

    def _take(self, asked: Asked) -> None:
        service = self._service
        if asked.url not in ENDPOINTS or asked.method != b"POST":
            self._write(service.answer_other(asked.method, asked.url).data, asked)
            return
        service.stats.request_came(asked.body)
        if service.is_immediate and MARK not in asked.body:
            # Service takes no time: count at least one request in flight, and leave the integral unchanged.
            service.stats.max_in_flight = service.stats.max_in_flight or 1
            self._reply(service.answer(asked.url, asked.body), asked)
            return
        fault, extra_s = service.faults.pick(asked.body)
        visit = Visit(extra_s, lambda: self._serve(asked, fault))
        self._visit = visit
        if not service.desk.enter(visit):
            self._visit = None
            self._reply(replies.refused(), asked)

    def _serve(self, asked: Asked, fault: Fault | None) -> None:
        """Answer once the time of service has passed."""
        if fault is None:
            self._finish(self._service.answer(asked.url, asked.body), asked)
        elif fault.status is not None:
            self._finish(replies.failed(fault.status, fault.later), asked)
        elif fault.kind in SENSELESS:
            body = self._service.answer(asked.url, asked.body).data.partition(b"\r\n\r\n")[2]
            self._finish(SENSELESS[fault.kind](body), asked)
        elif fault.kind in ("slow", "drip", "cut", "stall"):
            self._send_part(self._service.answer(asked.url, asked.body).data, fault.kind, asked)
        elif fault.kind in ("huge", "flood"):
            self._send_huge(fault.kind, asked)
        elif fault.kind != "hang":
            self._break_off(fault.kind)
        # A `hang` keeps its slot until the client gives up.

    def _finish(self, reply: Reply, asked: Asked) -> None:
        self._free_slot()
        self._reply(reply, asked)

    def _free_slot(self) -> None:
        if self._visit is not None:
            self._service.desk.leave(self._visit)
            self._visit = None

    def _reply(self, reply: Reply, asked: Asked) -> None:
        self._service.stats.by_status[_status_name(reply.status)] += 1
        self._write(reply.data, asked)

    def _write(self, data: bytes, asked: Asked) -> None:
        if not self._is_open:
            return
        self._transport.write(data)
        if asked.is_last:
            self._transport.close()
        elif self._waiting:
            self._take(self._waiting.popleft())

    def _send_part(self, data: bytes, kind: str, asked: Asked) -> None:
        if kind == "slow":
            self._send_slowly(pieces.slices(data, -(-len(data) // SLOW_PIECES)), kind, asked)
        elif kind == "drip":
            self._send_slowly(pieces.slices(data, 1), kind, asked)
        elif kind == "stall":
            # The slot stays taken until the client gives up.
            self._transport.write(pieces.half_of(data))
        else:
            self._service.stats.by_status[kind] += 1
            self._free_slot()
            self._write(pieces.half_of(data), asked._replace(is_last=True))

    def _send_huge(self, kind: str, asked: Asked) -> None:
        self._free_slot()
        self._service.stats.by_status[kind] += 1
        *most, last = pieces.huge() if kind == "huge" else pieces.flood()
        for piece in most:
            self._transport.write(piece)
        self._write(last, asked)

    def _send_slowly(self, rest: Iterator[bytes], kind: str, asked: Asked) -> None:
        self._sending = None
        piece = next(rest, None)
        if piece is None:
            self._free_slot()
            self._service.stats.by_status[kind] += 1
            self._write(b"", asked)
            return
        self._transport.write(piece)
        loop = asyncio.get_running_loop()
        self._sending = loop.call_later(SLOW_PAUSE_S, self._send_slowly, rest, kind, asked)

    def _break_off(self, kind: str) -> None:
        self._service.stats.by_status[kind] += 1
        if kind == "down":
            self._service.door.shut_for(DOWN_S)
        elif kind == "close":
            self._transport.close()
        else:
            linger = self._transport.get_extra_info("socket")
            linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()


_STATUS_NAMES = {status: str(status) for status in range(200, 600)}


def _status_name(status: int) -> str:
    return _STATUS_NAMES[status]
