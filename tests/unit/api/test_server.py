"""gunicorn's worker as we change it, run in a thread of the test with an app of a few lines."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.glogging import Logger

from app.api.connection import Phase
from app.api.server import MAX_HEAD_BYTES, GuardedThreads
from tests.integration.processes import until
from tests.unit.api.running_server import HELLO, REQUEST, WITHIN_S, connect, read_until, running, settings, stepped


@pytest.mark.parametrize(
    ("said", "is_closing"), [(b"", False), (bytes(MAX_HEAD_BYTES + 1), True)], ids=["waiting for a head", "lingering"]
)
def test_a_connection_closed_to_make_room_is_counted_once_though_its_bytes_came_in_the_same_round(
    said: bytes, is_closing: bool
) -> None:
    with stepped(worker_connections=2) as worker, connect(worker) as idlest:
        idlest.sendall(said)

        def is_where_wanted() -> bool:
            worker.wait_for_and_dispatch_events(0)
            return [conn.phase is Phase.LINGER for conn in worker._waiting.all()] == [is_closing]

        until(is_where_wanted, WITHIN_S, "the connection waits for its bytes")
        with connect(worker):
            idlest.sendall(b"GET")

            worker.wait_for_and_dispatch_events(WITHIN_S)

            assert (worker.nr_conns, len(worker._waiting)) == (1, 1)


@pytest.mark.parametrize("next_head", [b"", REQUEST[:10]], ids=["nothing", "the start of a head"])
def test_a_connection_kept_alive_after_the_stop_does_not_cost_the_whole_grace(next_head: bytes) -> None:
    may_answer = threading.Event()

    def answer_later(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # The head goes out before the stop, and so promises to keep the connection.
        start_response("200 OK", [("content-length", str(len(HELLO)))])
        yield HELLO[:1]
        may_answer.wait(WITHIN_S)
        yield HELLO[1:]

    with running(answer_later) as (worker, loop), connect(worker) as connection:
        connection.sendall(REQUEST)
        assert b"keep-alive" in read_until(connection, HELLO[:1])
        worker.handle_exit(None, None)
        until(lambda: not worker._accepting, WITHIN_S, "the worker has capped what it keeps alive")

        may_answer.set()
        read_until(connection, HELLO[1:])
        connection.sendall(next_head)

        loop.join(WITHIN_S)
        assert not loop.is_alive()


def test_a_caller_who_expects_to_be_told_to_continue_is_told() -> None:
    def repeat(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("content-length", str(len(HELLO)))])
        return [environ["wsgi.input"].read()]

    with running(repeat) as (worker, _), connect(worker) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        connection.sendall(HELLO)

        assert read_until(connection, HELLO).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("rest", "answer"),
    [
        (b"content-length: 5\r\n\r\nhello", b"hello"),
        (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"content-length: 0\r\n\r\n", b""),
        (b"\r\n", b""),
    ],
    ids=["a length", "chunks", "a length of 0", "no body"],
)
def test_a_caller_who_does_not_wait_to_be_told_to_continue_is_answered(rest: bytes, answer: bytes) -> None:
    def repeat(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("content-length", str(len(body) + 1))])
        return [body + b"."]

    with running(repeat) as (worker, _), connect(worker) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\n" + rest)

        assert read_until(connection, answer + b".").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_file_that_the_kernel_sends_arrives(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(HELLO)

    def send_file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("content-length", str(len(HELLO)))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](path.open("rb"))
        return wrapped

    with running(send_file) as (worker, _), connect(worker) as connection:
        connection.sendall(REQUEST)

        assert read_until(connection, HELLO).endswith(b"\r\n\r\n" + HELLO)


@pytest.mark.parametrize("name", ["certfile", "keyfile"])
def test_a_start_with_tls_is_refused_and_says_what_to_do(name: str) -> None:
    cfg = settings(**{name: "server.pem"})

    with pytest.raises(RuntimeError, match="leave out --certfile and --keyfile, and put a proxy in front"):
        GuardedThreads.check_config(cfg, Logger(cfg))


def test_a_start_without_tls_is_not_refused() -> None:
    cfg = settings()

    GuardedThreads.check_config(cfg, Logger(cfg))


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "Script-Name", "X-Forwarded-Prefix"])
def test_a_header_never_sets_a_variable_of_the_server(name: str) -> None:
    def tell(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        told = [environ["SCRIPT_NAME"], environ["PATH_INFO"], environ.get("REMOTE_USER", "")]
        body = "|".join(told).encode()
        start_response("200 OK", [("content-length", str(len(body)))])
        return [body]

    with running(tell) as (worker, _), connect(worker) as connection:
        connection.sendall(f"GET /v1/files HTTP/1.1\r\nhost: test\r\n{name}: /v1\r\nconnection: close\r\n\r\n".encode())

        assert read_until(connection, b"never").endswith(b"\r\n\r\n|/v1/files|")
