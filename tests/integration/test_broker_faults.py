"""What is said of a broker that can't be used: by a real one."""

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.adapters.broker.check import check_writes, explain_eviction
from app.adapters.broker.connections import EVERY_KEY, open_client
from app.adapters.broker.faults import explain_broker_fault, is_lasting
from app.config import load_settings
from app.domain.broker_address import read_broker_address
from app.wiring.setup import prepare
from app.wiring.start import await_broker
from app.wiring.status import look_at
from tests.integration.brokers import (
    answering,
    asking_for_certificates,
    free_port,
    make_certificate,
    make_expired_certificate,
    open_server,
    tls_before,
    watched_by_a_sentinel,
)
from tests.integration.processes import until

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command makes the certificate")
# Said within 5 s where nothing else is at work here.
_WITHIN_S = 20.0
_SHOWN_CHARS = 400


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a broker with a password."""
    with open_server("--requirepass", "right", "--databases", "2") as port:
        yield port


def said(url: str, look: Callable[[redis.Redis], object] = check_writes) -> tuple[str, bool]:
    """Return what is said of the broker at this address, and whether only a correction mends it."""
    address = read_broker_address(url)
    client, began_at = open_client(address, 4.0, EVERY_KEY), time.monotonic()
    with pytest.raises((redis.RedisError, OSError)) as caught:
        look(client)
    client.close()
    told = explain_broker_fault(caught.value, address)
    assert time.monotonic() - began_at < _WITHIN_S
    assert address.shown in told
    assert "hush" not in told
    return told, is_lasting(caught.value)


@pytest.mark.parametrize("credentials", [":hush@", "nobody:hush@", ""])
def test_a_wrong_password_is_told_and_is_not_waited_for(port: int, credentials: str) -> None:
    told, lasts = said(f"redis://{credentials}127.0.0.1:{port}/0")

    assert "correct user and password" in told
    assert lasts


@pytest.mark.parametrize("allowed", [["~other:*", "+@all"], ["~wylon:*", "+@all", "-set"]])
def test_a_user_without_the_keys_or_commands_is_told_and_is_not_waited_for(allowed: list[str]) -> None:
    with open_server("--user", "limited", "on", ">hush", "&*", *allowed) as port:
        told, lasts = said(f"redis://limited:hush@127.0.0.1:{port}/0")

    assert "ACL SETUSER USER ~wylon:* +@all" in told
    assert lasts


def test_a_database_that_the_broker_has_not_is_told(port: int) -> None:
    told, lasts = said(f"redis://:right@127.0.0.1:{port}/7")

    assert "no database of this number" in told
    assert lasts


def test_a_port_at_which_nothing_listens_is_told_and_waited_for() -> None:
    told, lasts = said(f"redis://:hush@127.0.0.1:{free_port()}/0")

    assert "nothing listens there" in told
    assert not lasts


def test_a_host_that_nobody_knows_is_told() -> None:
    assert "no such host" in said("redis://:hush@no-such-host.invalid/0")[0]


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "no such socket" in said(f"redis+socket://{tmp_path}/broker.sock")[0]


def test_a_server_that_takes_connections_and_says_nothing_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told, lasts = said(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

    assert "gives no answer" in told
    assert not lasts


def test_tls_to_a_port_without_it_is_told(port: int) -> None:
    assert "TLS fails: is this the port for TLS?" in said(f"rediss://:hush@127.0.0.1:{port}/0")[0]


@needs_openssl
def test_no_tls_to_a_port_with_it_is_told(port: int, tmp_path: Path) -> None:
    _, context = make_certificate(tmp_path)
    with tls_before(port, context) as tls_port:
        told, _ = said(f"redis://:hush@127.0.0.1:{tls_port}/0")

    assert "rediss://" in told


@needs_openssl
def test_a_certificate_that_is_not_trusted_is_told_and_one_whose_ca_is_named_is(port: int, tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    with tls_before(port, context) as tls_port:
        url = f"rediss://:right@127.0.0.1:{tls_port}/1"
        told, lasts = said(url)
        for query in (f"ssl_ca_certs={certificate}", "ssl_cert_reqs=CERT_NONE"):
            client = open_client(read_broker_address(f"{url}?{query}"), 4.0)
            check_writes(client)
            client.close()

    assert "name its CA by ?ssl_ca_certs=" in told
    assert lasts


@needs_openssl
def test_a_certificate_for_another_name_is_told(port: int, tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path, "DNS:elsewhere.example")
    with tls_before(port, context) as tls_port:
        told, lasts = said(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")

    assert "its certificate is for another name: correct the host" in told
    assert lasts


@needs_openssl
def test_a_certificate_that_has_expired_is_told(port: int, tmp_path: Path) -> None:
    certificate, context = make_expired_certificate(tmp_path)
    with tls_before(port, context) as tls_port:
        told, lasts = said(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")

    assert "not valid at this time: renew it" in told
    assert lasts


@needs_openssl
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_of_the_client_is_told(tmp_path: Path, version: ssl.TLSVersion) -> None:
    certificate, context = make_certificate(tmp_path)
    context.maximum_version = version
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    own = f"&ssl_certfile={other}&ssl_keyfile={tmp_path}/other/key.pem"
    with asking_for_certificates(context, certificate) as port:
        for query in ("", own):
            url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}{query}"

            # With TLS 1.3 the client's first words may meet a closed socket, before the alert is read.
            until(
                lambda url=url: "add ?ssl_certfile=PATH&ssl_keyfile=PATH" in said(url)[0] and said(url)[1],
                _WITHIN_S,
                "the alert is told and lasts",
            )


def test_a_server_of_another_kind_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        told, lasts = said(f"redis://127.0.0.1:{port}/0")

    assert "no Redis answers there: correct host and port" in told
    assert not lasts


def test_sentinels_that_do_not_answer_are_named() -> None:
    one, other = free_port(), free_port()

    told, lasts = said(f"sentinel://:hush@127.0.0.1:{one};sentinel://:hush@127.0.0.1:{other}?master_name=mine")

    assert f"mine of the Sentinels 127.0.0.1:{one}, 127.0.0.1:{other}" in told
    assert not lasts


@pytest.mark.parametrize(
    ("name", "password", "cure"),
    [
        ("mine", "hush", "correct sentinel_username and sentinel_password"),
        ("mine", "", "correct sentinel_username and sentinel_password"),
        ("yours", "right", "correct master_name"),
    ],
)
def test_a_wrong_name_or_password_of_sentinels_is_told_shortly_and_is_not_waited_for(
    name: str, password: str, cure: str
) -> None:
    with watched_by_a_sentinel("requirepass right") as port:
        query = f"&sentinel_password={password}" if password else ""
        told, lasts = said(f"sentinel://127.0.0.1:{port}?master_name={name}{query}")

    assert cure in told
    assert lasts
    assert len(told) < _SHOWN_CHARS


def test_a_server_that_is_no_sentinel_is_told(port: int) -> None:
    told, _ = said(f"sentinel://127.0.0.1:{port}?master_name=mine&sentinel_password=right")

    assert "no Sentinel answers there" in told


def test_sentinels_that_take_connections_and_say_nothing_are_told_and_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told, lasts = said(f"sentinel://127.0.0.1:{silent.getsockname()[1]}?master_name=mine")

    assert "gives no answer" in told
    assert len(told) < _SHOWN_CHARS
    assert not lasts


def test_a_full_broker_refuses_and_is_not_ready() -> None:
    with open_server("--maxmemory", "1", "--maxmemory-policy", "noeviction") as port:
        told, lasts = said(f"redis://127.0.0.1:{port}/0")

    assert "its memory is full" in told
    assert not lasts


def test_a_replica_is_hung_up_on_and_is_not_ready() -> None:
    with open_server() as primary, open_server("--replicaof", "127.0.0.1", str(primary)) as replica:
        told, lasts = said(f"redis://127.0.0.1:{replica}/0")

    assert "name the primary" in told
    assert not lasts


@pytest.mark.parametrize(
    ("options", "is_warned_of"),
    [
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], True),
        (["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"], True),
        (["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"], False),
        (["--maxmemory", "0", "--maxmemory-policy", "allkeys-lru"], False),
    ],
)
def test_a_broker_that_may_evict_is_warned_of_with_the_cure(options: list[str], *, is_warned_of: bool) -> None:
    with open_server(*options) as port:
        client = open_client(read_broker_address(f"redis://127.0.0.1:{port}/0"), 4.0)
        reason = explain_eviction(client)
        client.close()

    assert ("set maxmemory-policy noeviction" in str(reason)) is is_warned_of


def test_up_and_status_tell_that_a_broker_may_evict(tmp_path: Path) -> None:
    with open_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as port:
        settings = load_settings(
            {"WYLON_CONFIG": "", "WYLON_DATA": str(tmp_path), "WYLON_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        )
        prepare(settings)
        said_by_up = list[str]()
        await_broker(settings, said_by_up.append)
        parts = look_at(settings, asks_upstreams=False).parts

    assert len(said_by_up) == 1
    assert f"Warning: 127.0.0.1:{port}/0: the broker drops messages" in said_by_up[0]
    assert "by its maxmemory-policy allkeys-lru" in str(parts["eviction"])
    assert parts["broker"] is None


def test_a_connection_by_tcp_is_kept_alive_and_given_up_within_a_minute(port: int) -> None:
    client = open_client(read_broker_address(f"redis://:right@127.0.0.1:{port}/0"), 4.0)
    connection = client.connection_pool.get_connection()
    taken = connection._sock

    assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle, interval, count = (
        taken.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    )
    assert idle + interval * count <= 60
    assert 0 < taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
    client.connection_pool.release(connection)
    client.close()
