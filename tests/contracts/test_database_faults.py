import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from app.adapters.db.engine import check_writes, open_engine, writing
from app.domain.errors import SettingInvalid, Unavailable, WylonError
from tests.integration.brokers import answering
from tests.integration.pgbouncer import needs_pgbouncer, pooled
from tests.postgres import PostgresServer


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that nothing listens at: it is bound, and takes no connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_server_that_is_not_there_is_named_with_the_cure_and_no_password(unused_port: int) -> None:
    said = _said(f"postgresql://someone:hush@127.0.0.1:{unused_port}/wylon")

    assert f"127.0.0.1:{unused_port}/wylon" in said
    assert "nothing listens there" in said
    assert "hush" not in said


def test_a_host_that_nobody_knows_is_named() -> None:
    said = _said("postgresql://someone:hush@no-such-host.invalid/wylon?password=hush")

    assert "no such host" in said
    assert "no-such-host.invalid:5432/wylon" in said
    assert "hush" not in said


def test_a_database_that_does_not_exist_is_told_with_the_cure(postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="nothing")

    assert "make it by CREATE DATABASE" in _said(url.render_as_string())


def test_an_unknown_user_is_told_with_the_cure(postgres_url: str) -> None:
    assert "correct user and password" in _said(postgres_url.replace("postgres@", "nobody:hush@"))


def test_a_server_without_tls_is_told_where_tls_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=_refuse_tls, args=[server], daemon=True).start()
        said = _said(f"postgresql://someone:hush@127.0.0.1:{port}/wylon?sslmode=require")

    assert "TLS fails" in said
    assert "hush" not in said


@pytest.mark.parametrize(
    "parameter",
    ["sslmode=sometimes", "target_session_attrs=best", "connect_timeout=soon", "options=-cstatement_timeout%3Dsoon"],
)
def test_a_value_that_a_parameter_does_not_take_is_told_with_the_cure_and_not_waited_for(
    postgres_url: str, parameter: str
) -> None:
    assert "correct this parameter of the address" in _said(f"{postgres_url}&{parameter}", SettingInvalid)


@pytest.mark.parametrize("mode", ["prefer", "disable"])
@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_a_server_of_another_kind_is_told(words: bytes, mode: str) -> None:
    with answering(words) as port:
        assert "no PostgreSQL answers there" in _said(f"postgresql://u:hush@127.0.0.1:{port}/wylon?sslmode={mode}")


@needs_pgbouncer()
def test_a_pooler_in_the_mode_statement_is_told_with_the_cure(postgres_url: str) -> None:
    with pooled(postgres_url, mode="statement") as url:
        assert "set pool_mode = transaction" in _said(url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_does_not_keep_text_as_utf_8_is_told_with_the_cure_and_not_waited_for(
    request: pytest.FixtureRequest, encoding: str
) -> None:
    server: PostgresServer = request.getfixturevalue("_postgres_server")
    name = server.create_database(encoding)
    try:
        said = _said(server.url(name), SettingInvalid)
    finally:
        server.drop_database(name)

    assert f"/{name} of WYLON_DATABASE_URL can't be used: it has the encoding {encoding}" in said
    assert "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0" in said


def test_text_is_exchanged_as_utf_8_whatever_the_address_and_the_environment_say(postgres_url: str) -> None:
    engine = open_engine(f"{postgres_url}&client_encoding=LATIN1")
    with writing(engine) as connection:
        assert connection.execute(text("SELECT '…', current_setting('client_encoding')")).one() == ("…", "UTF8")
    engine.dispose()


def test_a_database_that_was_never_prepared_is_told_with_the_cure(tmp_path: Path) -> None:
    assert "wylon migrate" in _said(f"sqlite:///{tmp_path / 'wylon.db'}")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    said = _said(f"sqlite:///{tmp_path / 'missing' / 'wylon.db'}")

    assert str(tmp_path / "missing" / "wylon.db") in said
    assert "look at the folder" in said


def _refuse_tls(server: socket.socket) -> None:
    """Answer `N` to whoever asks for TLS, as a server without a certificate does."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(8)
            connection.sendall(b"N")


def _said(url: str, error: type[WylonError] = Unavailable) -> str:
    engine = open_engine(url)
    try:
        with pytest.raises(error) as told:
            check_writes(engine)
    finally:
        engine.dispose()
    return str(told.value)
