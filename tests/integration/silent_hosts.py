"""Calls to a host that is cut off without a word, in network namespaces of their own.

Run as `unshare --net --map-root-user python -m tests.integration.silent_hosts`; prints what the calls came to as JSON.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time

import uvloop

from app.adapters.upstream.client import HttpUpstream
from app.services.ports import Answer

OURS, THEIRS, PORT = "10.99.0.1", "10.99.0.2", 8000
CALLS = 20
CHAT = "/v1/chat/completions"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + b'{"id":"c"}'
# Longer than it may take to notice that a host is gone.
THINKS_S = 45.0
ASKED_WITHIN_S = 30.0
LARGE = b'"' + b"x" * 8_000_000 + b'"'


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)


def be_the_host() -> None:
    """Answer the first request of each connection and no other, in the other namespace, until told to vanish."""
    say(str(os.getpid()))
    sys.stdin.readline()
    run_ip("addr", "add", f"{THEIRS}/24", "dev", "theirs")
    run_ip("link", "set", "theirs", "up")

    unanswered = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(GOOD)
        await reader.readuntil(b"{}")
        unanswered.release()
        await reader.read()

    async def main() -> None:
        await asyncio.start_server(serve, THEIRS, PORT)
        say("serving")
        await asyncio.to_thread(sys.stdin.readline)
        # The calls that are to wait for their answers have all come.
        for _ in range(CALLS):
            await asyncio.wait_for(unanswered.acquire(), ASKED_WITHIN_S)
        # From now on nothing goes back, not even that the host can't be reached.
        run_ip("route", "add", "blackhole", f"{OURS}/32")
        say("gone")
        await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())


class OtherHost:
    """A process in a namespace of its own, at the other end of a cable."""

    def __init__(self) -> None:
        command = ["unshare", "--net", sys.executable, "-m", "tests.integration.silent_hosts", "host"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        run_ip("link", "set", "lo", "up")
        run_ip("link", "add", "ours", "type", "veth", "peer", "name", "theirs", "netns", self._answer())
        run_ip("addr", "add", f"{OURS}/24", "dev", "ours")
        run_ip("link", "set", "ours", "up")
        self._ask()
        assert self._answer() == "serving"

    def vanish(self) -> None:
        self._ask()
        assert self._answer() == "gone"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def upstream_at(url: str) -> HttpUpstream:
    return HttpUpstream(url, api_key=None, connect_timeout_s=5.0, first_byte_timeout_s=600.0)


async def timed(answering: "asyncio.Future[Answer] | asyncio.Task[Answer]") -> dict[str, object]:
    began = time.monotonic()
    answer = await answering
    return {"trouble": answer.trouble.value, "error": answer.error, "took_s": time.monotonic() - began}


async def call_the_host(host: OtherHost) -> dict[str, list[dict[str, object]]]:
    """Cut the host off while calls wait for their answers, and make more calls on connections that are open still."""
    upstream, cut = upstream_at(f"http://{THEIRS}:{PORT}/v1"), upstream_at(f"http://{THEIRS}:{PORT}/v1")
    for each in (upstream, cut):
        await asyncio.gather(*(each.call(CHAT, b"{}", 600.0) for _ in range(CALLS)))
    waiting = [asyncio.ensure_future(upstream.call(CHAT, b"{}", 600.0)) for _ in range(CALLS)]
    await asyncio.to_thread(host.vanish)
    sent = [asyncio.ensure_future(cut.call(CHAT, b"{}", 600.0)) for _ in range(CALLS)]
    new = [asyncio.ensure_future(upstream.call(CHAT, b"{}", 600.0))]
    both = await asyncio.gather(*(asyncio.gather(*map(timed, calls)) for calls in (waiting, sent, new)))
    for each in (upstream, cut):
        await each.close()
    return dict(zip(("waiting", "sent", "new"), both, strict=True))


async def call_slow_models() -> dict[str, list[dict[str, object]]]:
    """Call a server that thinks for long, and one that for as long does not even read its requests."""

    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        await asyncio.sleep(THINKS_S)
        writer.write(GOOD)

    def read_late() -> None:
        connection, _ = listener.accept()
        with connection:
            time.sleep(THINKS_S)
            left = len(LARGE)
            while left > 0:
                left -= len(connection.recv(1 << 20))
            connection.sendall(GOOD)

    thinking = await asyncio.start_server(think, "127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reading = asyncio.create_task(asyncio.to_thread(read_late))
        ports = thinking.sockets[0].getsockname()[1], listener.getsockname()[1]
        slow, full = (upstream_at(f"http://127.0.0.1:{port}/v1") for port in ports)
        calls = [asyncio.ensure_future(slow.call(CHAT, b"{}", 600.0))]
        calls.append(asyncio.ensure_future(full.call(CHAT, LARGE, 600.0)))
        said = await asyncio.gather(*map(timed, calls))
        await reading
        for each in (slow, full):
            await each.close()
    return {"slow": said}


async def main() -> None:
    host = OtherHost()
    try:
        gone, slow = await asyncio.gather(call_the_host(host), call_slow_models())
        say(json.dumps(gone | slow))
    finally:
        host.end()


if __name__ == "__main__":
    be_the_host() if sys.argv[1:] == ["host"] else uvloop.run(main())
