"""Brokers of a test over TCP, behind TLS or Sentinels, and servers that are no brokers."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from app.cli.up.broker import embed_broker
from tests.integration.processes import START_WITHIN_S, Process, environ_of, until

_PIECE_BYTES = 65_536
_TURNS = 20


def free_port() -> int:
    """Return a port that nothing listens at for now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="wylon-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_server(folder: Path, port: int, *options: str) -> Process:
    """Start a broker at this port; returns once it answers."""
    program = str(embed_broker(folder).program)
    command = [program, "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no", *options]
    process = Process(command, folder / f"server-{port}.log", environ_of({}), folder)
    client = redis.Redis(port=port)
    until(lambda: _answers(client), START_WITHIN_S, "the broker answers")
    client.close()
    return process


@contextmanager
def open_server(*options: str) -> Iterator[int]:
    """Run a broker; yields its port."""
    with folder_of_its_own() as folder:
        port = free_port()
        process = start_server(folder, port, *options)
        try:
            yield port
        finally:
            process.end()


def make_expired_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return an expired certificate, and the context of a server with the certificate."""
    certificate, context = make_certificate(folder)
    key, expired = folder / "key.pem", folder / "expired.pem"
    command = ["openssl", "x509", "-in", str(certificate), "-signkey", str(key), "-days", "-1", "-out", str(expired)]
    subprocess.run(command, check=True, capture_output=True)
    context.load_cert_chain(expired, key)
    return expired, context


@contextmanager
def asking_for_certificates(context: ssl.SSLContext, trusted: Path) -> Iterator[int]:
    """Ask each client for a certificate signed by the trusted certificate, and hang up; yields the port."""
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted)

    def shake_hands(connection: socket.socket) -> None:
        # The failed handshake sends the alert by itself.
        with context.wrap_socket(connection, server_side=True):
            pass

    with _hanging_up_after(shake_hands) as port:
        yield port


@contextmanager
def answering(words: bytes) -> Iterator[int]:
    """Answer the first message of each client with these words, and hang up; yields the port."""

    def answer(connection: socket.socket) -> None:
        connection.recv(_PIECE_BYTES)
        connection.sendall(words)

    with _hanging_up_after(answer) as port:
        yield port


@contextmanager
def _hanging_up_after(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection, then hang up; yields the port."""

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def make_certificate(folder: Path, name: str = "IP:127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """Return a new certificate for this name or address, and what a server presents it with."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "1", "-subj", "/CN=wylon", "-addext", f"subjectAltName={name}"]
    extensions = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *subject, *extensions, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@contextmanager
def tls_before(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Take TLS off connections and hand them on to this port; yields the port for TLS."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner: asyncio.StreamWriter | None = None
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_carry(reader, inner), _carry(inner_reader, writer))
        except (OSError, ssl.SSLError):
            return
        finally:
            for each in (writer, inner):
                if each is not None:
                    each.transport.abort()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def end() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was aborted is closed in the loop's next turns.
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(START_WITHIN_S)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(START_WITHIN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_WITHIN_S)
        loop.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


def start_sentinel(folder: Path, port: int, name: str, primary_port: int, *more: str) -> Process:
    """Start a Sentinel at this port that watches a primary by this name."""
    own = folder / str(port)
    own.mkdir()
    lines = [
        f"port {port}",
        f"dir {own}",
        f"sentinel monitor {name} 127.0.0.1 {primary_port} 2",
        f"sentinel down-after-milliseconds {name} 1000",
        f"sentinel failover-timeout {name} 5000",
        *more,
    ]
    (own / "sentinel.conf").write_text("\n".join(lines) + "\n")
    command = [str(embed_broker(folder).program), str(own / "sentinel.conf"), "--sentinel"]
    return Process(command, own / "log", environ_of({}), own)


@contextmanager
def watched_by_a_sentinel(*more: str) -> Iterator[int]:
    """Run a primary by the name `mine` and a Sentinel with these lines of configuration; yields the Sentinel's port."""
    with open_server() as primary, folder_of_its_own() as folder:
        port = free_port()
        process = start_sentinel(folder, port, "mine", primary, *more)
        client = redis.Redis(port=port)
        try:
            until(lambda: _answers(client), START_WITHIN_S, "the Sentinel answers")
            yield port
        finally:
            client.close()
            process.end()


class WatchedServers:
    """A primary, a replica, and the Sentinels that watch them."""

    NAME = "mine"

    def __init__(self, folder: Path, sentinels: int = 3) -> None:
        self.primary_port, self.replica_port = free_port(), free_port()
        self.primary = start_server(folder, self.primary_port)
        follow = ["--replicaof", "127.0.0.1", str(self.primary_port), "--repl-diskless-sync-delay", "0"]
        self._replica = start_server(folder, self.replica_port, *follow)
        self._ports = [free_port() for _ in range(sentinels)]
        self._sentinels = [start_sentinel(folder, port, self.NAME, self.primary_port) for port in self._ports]
        client = redis.Redis(port=self._ports[0])
        until(lambda: self._is_whole(client), START_WITHIN_S, "the Sentinels know each other and the replica")
        client.close()

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{port}" for port in self._ports) + f"/0?master_name={self.NAME}"

    def end(self) -> None:
        for process in (*self._sentinels, self._replica, self.primary):
            process.end()

    def _is_whole(self, client: redis.Redis) -> bool:
        try:
            found: Sequence[dict[str, object]] = client.sentinel_masters().values()
        except redis.ConnectionError:
            return False
        wanted = len(self._ports) - 1
        return any(each["num-slaves"] == 1 and each["num-other-sentinels"] == wanted for each in found)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False
