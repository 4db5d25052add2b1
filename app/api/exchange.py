"""A request and its answer, in a thread: the thread works without waiting, and the loop does the waiting."""

import enum
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from flask import has_request_context
from flask import request as flask_request
from gunicorn.http import get_parser  # type: ignore[import-untyped]
from gunicorn.http.body import ChunkedReader, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.errors import NoMoreData  # type: ignore[import-untyped]
from gunicorn.http.wsgi import create  # type: ignore[import-untyped]

from app.api.answer import Answer
from app.api.body_gathering import BodyGathering, Chunks, Framing, KnownLength, most_gathered
from app.api.connection import Connection
from app.api.refusals import refusal, status_of
from app.api.upload_form import MAX_UPLOAD_BYTES

# The bytes of a caller's turn: other callers wait for the disk no longer than the bytes take.
_TURN_BYTES = 4 * 1024 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Next(enum.Enum):
    """The loop's next step for a connection after a thread's work."""

    BODY = "waits for the rest of the body"
    ANSWER = "waits until the caller takes more of the answer"
    TURN = "lets others have their turn"
    HEAD = "waits for the next request"
    LINGER = "closes, and lets what was sent arrive"
    CLOSE = "closes at once"


class BodyNotHere(BaseException):
    """The application reads bytes of the body that are still to come.

    A BaseException, since the application must not catch the error by `except Exception`.
    """

    def __init__(self) -> None:
        super().__init__()
        # The application's limit on the body; known only for a Flask application.
        self.limit = flask_request.max_content_length if has_request_context() else None


class Source:
    """The received bytes of a request, used by gunicorn's parser as a socket."""

    def __init__(self, start: bytes, file: IO[bytes] | None = None, fault: Exception | None = None) -> None:
        """Read from `start`, then from the file.

        Args:
            start: the head, and bytes received together with the head.
            file: the body.
            fault: raised behind the last byte.
        """
        self._start = start
        self._at = 0
        self._file = file
        self._fault = fault
        # Set while bytes of the body are still to come.
        self.is_pending = False

    def recv(self, size: int) -> bytes:
        if self._at < len(self._start):
            piece = self._start[self._at : self._at + size]
            self._at += len(piece)
            return piece
        piece = b"" if self._file is None else self._file.read(size)
        if not piece and self._fault is not None:
            raise self._fault
        if not piece and self.is_pending:
            raise BodyNotHere
        return piece

    def unread(self) -> bytes:
        """Return the unread rest of the start."""
        return self._start[self._at :]


class Exchanges:
    """Runs requests through a WSGI application."""

    def __init__(self, cfg: Any, wsgi: Callable[..., Iterable[bytes]], log: Any, folder: Path | None) -> None:
        """Take the parts of gunicorn's worker.

        Args:
            cfg: gunicorn's settings.
            wsgi: the application.
            log: gunicorn's logger.
            folder: see `BodyGathering`.
        """
        self._cfg = cfg
        self._wsgi = wsgi
        self._log = log
        self._folder = folder
        # Unset when the process ends: from then on, an answer is the last of its connection.
        self.is_keeping_alive = True

    def begin(self, conn: Connection) -> Next:
        """Serve a request with a whole head; return BODY if the application reads bytes that have not come.

        After BODY, the application runs a second time when the body is whole. A refusal by the head alone, for a wrong
        key or a length over the limit, is thus sent at once, and no thread ever waits for a body.
        """
        conn.begin_request()
        received = bytes(conn.received)
        conn.received.clear()
        return self._guarded(conn, lambda: self._begin(conn, received))

    def _begin(self, conn: Connection, received: bytes) -> Next:
        source = Source(received)
        parser = get_parser(self._cfg, source, conn.client)
        request = _parsed(parser)
        start = parser.unreader.buf.getvalue() + source.unread()
        framing = _framing_of(request)
        taken = framing.feed(start)
        # Send 100 Continue below: gunicorn would send 100 Continue even if the body has come already.
        expects_continue, request._expected_100_continue = request._expected_100_continue, False
        if framing.is_done:
            return self._answer(conn, parser, request, rest=start[taken:], unread=source.unread)
        source.is_pending = True
        try:
            # The connection discards the rest of the body, then closes.
            return self._answer(conn, parser, request, is_last=True)
        except BodyNotHere as wanted:
            if conn.answer is not None and conn.answer.has_begun:
                return Next.CLOSE
            most = most_gathered(wanted.limit, MAX_UPLOAD_BYTES)
        if conn.answer is not None:
            conn.answer.close()
            conn.answer = None
        conn.head = received[: len(received) - len(start)]
        conn.body = BodyGathering(_framing_of(request), start, most, self._folder)
        if expects_continue:
            conn.outlet.sendall(_CONTINUE)
        return Next.BODY

    def complete(self, conn: Connection) -> Next:
        """Serve the request with the gathered body."""
        body = conn.take_body()
        if body is None:
            return Next.CLOSE
        try:
            return self._guarded(conn, lambda: self._complete(conn, body))
        finally:
            body.close()

    def _complete(self, conn: Connection, body: BodyGathering) -> Next:
        # Reading a body that never came whole raises the fault at once.
        source = Source(conn.head, body.rewound() if body.fault is None else None, body.fault)
        parser = get_parser(self._cfg, source, conn.client)
        request = _parsed(parser)
        request._expected_100_continue = False
        return self._answer(conn, parser, request, rest=body.rest, is_last=body.fault is not None)

    def go_on(self, conn: Connection) -> Next:
        """Send more of the answer to a caller that reads again."""
        return self._guarded(conn, lambda: self._send(conn))

    def _guarded(self, conn: Connection, act: Callable[[], Next]) -> Next:
        try:
            return act()
        except OSError as fault:
            # Usually the caller is gone.
            self._log.debug("Connection broken: %s", fault)
            return Next.CLOSE
        except Exception as fault:
            status = status_of(fault)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._log.exception("Error handling request")
            else:
                self._log.warning("Invalid request from %s: %s", conn.client[:1], fault)
            with suppress(OSError):
                conn.outlet.sendall(refusal(status))
            return Next.LINGER

    def _answer(
        self,
        conn: Connection,
        parser: Any,
        request: Any,
        *,
        rest: bytes = b"",
        unread: Callable[[], bytes] = bytes,
        is_last: bool = False,
    ) -> Next:
        """Run the application, and send as much of the answer as the caller takes at once.

        Args:
            conn: the connection.
            parser: gunicorn's parser, after the head.
            request: the parsed head.
            rest: the bytes behind the request.
            unread: returns the bytes not yet read by the parser.
            is_last: whether the connection closes after the answer in any case.
        """
        began_at = datetime.now()
        response, environ = create(request, conn.outlet, conn.client, conn.server, self._cfg)
        environ["wsgi.multithread"] = True

        def may_keep() -> bool:
            if is_last or not self.is_keeping_alive or not self._cfg.keepalive or request.body.failed:
                return False
            reader = request.body.reader
            if not isinstance(reader, ChunkedReader):
                return True
            # gunicorn's chunk reader decides: if it ends the body elsewhere, the next request's start is unknown.
            return reader.parser is None and parser.unreader.buf.getvalue() + unread() == rest

        def ended() -> None:
            self._log.access(response, request, environ, datetime.now() - began_at)

        pieces = self._wsgi(environ, response.start_response)
        conn.answer = Answer(response, pieces, rest=rest, may_keep=may_keep, ended=ended)
        return self._send(conn)

    def _send(self, conn: Connection) -> Next:
        answer = conn.answer
        if answer is None:
            return Next.CLOSE
        begun = conn.outlet.sent
        while conn.outlet.flush():
            if answer.is_over:
                conn.answer = None
                conn.received += answer.rest
                return Next.LINGER if answer.is_last else Next.HEAD
            if conn.outlet.sent - begun > _TURN_BYTES:
                return Next.TURN
            try:
                answer.step()
            except OSError:
                raise
            except Exception:
                if not answer.has_begun:
                    raise
                # Half an answer can't be taken back: the caller sees an answer cut off.
                self._log.exception("Error handling request")
                return Next.CLOSE
        return Next.ANSWER


def _parsed(parser: Any) -> Any:
    try:
        return next(parser)
    except StopIteration:
        # The request has an empty line in place of a head.
        raise NoMoreData(b"") from None


def _framing_of(request: Any) -> Framing:
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return Chunks()
    return KnownLength(reader.length if isinstance(reader, LengthReader) else 0)
