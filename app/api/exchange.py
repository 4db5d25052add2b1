"""A request and its answer, in a thread: what can be done at once is done, and for the rest the loop waits."""

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

# One caller's turn: whoever else takes an answer waits no longer for the disk than these bytes take.
_TURN_BYTES = 4 * 1024 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Next(enum.Enum):
    """What the loop does with a connection that a thread is done with."""

    BODY = "waits for the rest of the body"
    ANSWER = "waits until the caller takes more of the answer"
    TURN = "lets others have their turn"
    HEAD = "waits for the next request"
    LINGER = "closes, and lets what was sent arrive"
    CLOSE = "closes at once"


class BodyNotHere(BaseException):
    """The application asks for bytes that are still to come.

    No Exception: it passes through the application, whatever that does about errors.
    """

    def __init__(self) -> None:
        super().__init__()
        # The most that the application takes of this body; known where it is a Flask application that asks.
        self.limit = flask_request.max_content_length if has_request_context() else None


class Source:
    """What has come of a request, as gunicorn's parser takes it for a socket."""

    def __init__(self, start: bytes, file: IO[bytes] | None = None, fault: Exception | None = None) -> None:
        """Read from `start`, then from the file.

        Args:
            start: the head, and what came together with it.
            file: the body.
            fault: is raised behind the last byte.
        """
        self._start = start
        self._at = 0
        self._file = file
        self._fault = fault
        # Set where more bytes of the body are to come.
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
        """Return what is left of the start."""
        return self._start[self._at :]


class Exchanges:
    """Runs requests through a WSGI application."""

    def __init__(self, cfg: Any, wsgi: Callable[..., Iterable[bytes]], log: Any, folder: Path | None) -> None:
        """Take what gunicorn's worker has.

        Args:
            cfg: gunicorn's settings.
            wsgi: the application.
            log: gunicorn's own.
            folder: see `BodyGathering`.
        """
        self._cfg = cfg
        self._wsgi = wsgi
        self._log = log
        self._folder = folder
        # Unset as the process ends: from then on each answer is the last one of its connection.
        self.is_keeping_alive = True

    def begin(self, conn: Connection) -> Next:
        """Serve the request whose head has come; BODY where the application wants more of the body than has come.

        The application then runs a second time, when the body is whole. So one that refuses by the head alone, for a
        wrong key or a length over the limit, does so at once, and no thread ever waits for a body.
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
        # Told by this class: gunicorn would tell a caller whose body is here already, too.
        expects_continue, request._expected_100_continue = request._expected_100_continue, False
        if framing.is_done:
            return self._answer(conn, parser, request, rest=start[taken:], unread=source.unread)
        source.is_pending = True
        try:
            # The rest of this body is read past before the connection closes.
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
        """Serve the request whose body has been gathered."""
        body = conn.take_body()
        if body is None:
            return Next.CLOSE
        try:
            return self._guarded(conn, lambda: self._complete(conn, body))
        finally:
            body.close()

    def _complete(self, conn: Connection, body: BodyGathering) -> Next:
        # Who reads a body that never came whole is told so at once.
        source = Source(conn.head, body.rewound() if body.fault is None else None, body.fault)
        parser = get_parser(self._cfg, source, conn.client)
        request = _parsed(parser)
        request._expected_100_continue = False
        return self._answer(conn, parser, request, rest=body.rest, is_last=body.fault is not None)

    def go_on(self, conn: Connection) -> Next:
        """Send more of the answer that the caller takes again."""
        return self._guarded(conn, lambda: self._send(conn))

    def _guarded(self, conn: Connection, act: Callable[[], Next]) -> Next:
        try:
            return act()
        except OSError as fault:
            # The caller is gone, as a rule.
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
        """Run the application, and send of its answer what the caller takes at once.

        Args:
            conn: the connection.
            parser: gunicorn's, which has read the head.
            request: what it has read.
            rest: what came behind the request.
            unread: returns what the parser has not read yet.
            is_last: whether the connection closes behind the answer, whatever it is.
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
            # gunicorn's reading of chunks rules: where it does not end as ours did, nobody knows what comes next.
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
                # Half an answer can't be taken back: the caller sees that it is cut off.
                self._log.exception("Error handling request")
                return Next.CLOSE
        return Next.ANSWER


def _parsed(parser: Any) -> Any:
    try:
        return next(parser)
    except StopIteration:
        # An empty line stands where the head should be.
        raise NoMoreData(b"") from None


def _framing_of(request: Any) -> Framing:
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return Chunks()
    return KnownLength(reader.length if isinstance(reader, LengthReader) else 0)
