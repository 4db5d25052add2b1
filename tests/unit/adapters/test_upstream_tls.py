import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from app.adapters.upstream.catalog import fetch_models
from app.adapters.upstream.keepalive import Pulse
from app.adapters.upstream.pool import Pool
from app.adapters.upstream.target import read_target
from app.domain.errors import Unavailable
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.upstream_server import Handler, always, answer, call_at, on_uvloop, once, serving

GOOD = b'{"id":"c"}'
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command makes the certificates")


def make_certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Return a new certificate for this name or address, and what a server presents it with."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "1", "-subj", "/CN=wylon"]
    extensions = ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *subject, *extensions, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def call_securely(handler: Handler, tls: ssl.SSLContext, times: int = 1) -> Answer:
    async def run() -> Answer:
        async with serving(handler, tls=tls) as url:
            return await call_at(url, times=times)

    return on_uvloop(run())


def test_a_server_with_a_trusted_certificate_is_called(tmp_path, monkeypatch):
    certificate, tls = make_certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    opened = []

    async def handle(conversation):
        opened.append(conversation)
        await always(answer(GOOD))(conversation)

    said = call_securely(handle, tls, times=3)

    assert (said.trouble, said.body) == (Trouble.NONE, GOOD)
    assert len(opened) == 1


def test_a_list_of_models_is_asked_for_with_the_same_trust_as_calls(tmp_path, monkeypatch):
    certificate, tls = make_certificate(tmp_path, "IP:127.0.0.1")

    async def ask() -> list[dict[str, object]]:
        async with serving(once(answer(b'{"data":[{"id":"m"}]}')), tls=tls) as url:
            return await fetch_models(url, api_key=None, connect_timeout_s=5.0, first_byte_timeout_s=5.0)

    with pytest.raises(Unavailable, match="certificate"):
        on_uvloop(ask())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert on_uvloop(ask()) == [{"id": "m"}]


def test_a_server_with_a_certificate_that_nobody_trusts_is_away(tmp_path):
    _, tls = make_certificate(tmp_path, "IP:127.0.0.1")

    said = call_securely(always(answer(GOOD)), tls)

    assert (said.trouble, said.error[0]) == (Trouble.AWAY, "connection_failed")
    assert "certificate" in said.error[1]


def test_a_server_with_the_certificate_of_another_is_away(tmp_path, monkeypatch):
    certificate, tls = make_certificate(tmp_path, "DNS:elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    said = call_securely(always(answer(GOOD)), tls)

    assert (said.trouble, said.error[0]) == (Trouble.AWAY, "connection_failed")
    assert "certificate" in said.error[1]


def test_a_server_that_closes_amid_the_talk_of_tls_is_away_for_a_reason():
    async def close_at_first_words(conversation):
        await conversation.read_some()

    async def run() -> Answer:
        async with serving(close_at_first_words) as url:
            return await call_at(url.replace("http:", "https:"))

    said = on_uvloop(run())

    assert said.trouble is Trouble.AWAY
    assert said.error is not None
    assert "Error: the server closed it at once (" in said.error[1]


def test_the_host_of_a_secure_connection_is_watched_too(tmp_path, monkeypatch):
    certificate, tls = make_certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def run() -> None:
        async with serving(once(answer(GOOD)), tls=tls) as url:
            pool = Pool(read_target(url), connect_timeout_s=5.0, silence_s=5.0, max_body_bytes=1_000)
            sock = (await pool.connect(5.0))._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not Pulse(sock).is_gone()
            await pool.close()

    on_uvloop(run())
