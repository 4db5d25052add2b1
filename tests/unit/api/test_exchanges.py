"""Requests and answers whose callers are slow, many, or gone."""

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from tests.integration.processes import until
from tests.unit.api.running_server import HELLO, REQUEST, WITHIN_S, connect, read_until, running, say_hello

BIG = b"x" * 20_000_000
LATER = b"POST /later HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n"


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the path and the body, or with much."""
    path = environ["PATH_INFO"]
    body = BIG if path == "/big" else path.encode() + b"|" + environ["wsgi.input"].read()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


def test_bodies_that_are_still_to_come_hold_no_thread() -> None:
    with running(echo, threads=1) as (worker, _), ExitStack() as stack:
        slow = [stack.enter_context(connect(worker)) for _ in range(10)]
        for connection in slow:
            connection.sendall(LATER + b"late")
        with connect(worker) as other:
            other.sendall(REQUEST)
            assert read_until(other, b"|").endswith(b"/|")

        for connection in slow:
            connection.sendall(b" body")
            assert read_until(connection, b" body").endswith(b"/later|late body")


def test_callers_that_do_not_read_hold_no_thread_and_get_all_once_they_do() -> None:
    with running(echo, threads=1) as (worker, _), ExitStack() as stack:
        slow = [stack.enter_context(connect(worker)) for _ in range(10)]
        for connection in slow:
            connection.sendall(REQUEST.replace(b"GET /", b"GET /big"))
        with connect(worker) as other:
            other.sendall(REQUEST)
            assert read_until(other, b"|").endswith(b"/|")

        received = 0
        while received < len(BIG):
            received += len(slow[0].recv(1_000_000))


def test_health_is_answered_while_every_thread_is_taken() -> None:
    may_go_on = threading.Event()

    def hang(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/":
            may_go_on.wait(WITHIN_S)
        return say_hello(environ, start_response)

    with running(hang, threads=1) as (worker, _), connect(worker) as one, connect(worker) as other:
        one.sendall(REQUEST)
        other.sendall(REQUEST)
        for path in (b"/healthz", b"/readyz", b"/healthz?a=b"):
            with connect(worker) as watcher:
                watcher.sendall(REQUEST.replace(b"/ ", path + b" "))
                assert read_until(watcher, HELLO).startswith(b"HTTP/1.1 200 ")
        may_go_on.set()


def test_requests_that_come_at_once_are_answered_in_their_order() -> None:
    with running(echo) as (worker, _), connect(worker) as connection:
        chunked = b"POST /two HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        connection.sendall(REQUEST.replace(b"/ ", b"/one ") + chunked + LATER + b"some body" + LATER + b"another")
        connection.sendall(b"!!" + REQUEST.replace(b"/ ", b"/four "))

        said = read_until(connection, b"/four|")

    bodies = [part.partition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"/one|", b"/two|abc", b"/later|some body", b"/later|another!!", b"/four|"]


def test_an_application_that_answers_before_the_body_closes_the_connection_behind_its_answer() -> None:
    with running(say_hello) as (worker, _), connect(worker) as connection:
        connection.sendall(LATER.replace(b"length: 9", b"length: 5000000"))
        for _ in range(50):
            connection.sendall(b"x" * 100_000)

        said = read_until(connection, b"never")

    assert b"Connection: close" in said
    assert said.endswith(HELLO)


def test_an_unread_body_in_chunks_closes_the_connection_since_nobody_has_checked_its_end() -> None:
    with running(say_hello) as (worker, _), connect(worker) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

        assert b"Connection: close" in read_until(connection, b"never")


def test_half_a_body_of_a_caller_that_is_gone_is_let_go() -> None:
    with running(echo) as (worker, _):
        with connect(worker) as connection:
            connection.sendall(LATER + b"some")
            until(lambda: len(worker._waiting) == 1, WITHIN_S, "the body is being gathered")

        until(lambda: worker.nr_conns == 0, WITHIN_S, "the connection is gone")


def test_an_application_that_fails_half_way_cuts_its_answer_off() -> None:
    def fail(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("content-length", "100")])
        yield HELLO
        raise ValueError("half way")

    with running(fail) as (worker, _), connect(worker) as connection:
        connection.sendall(REQUEST)

        assert read_until(connection, b"never").endswith(HELLO)
