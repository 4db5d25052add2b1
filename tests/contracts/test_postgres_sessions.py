"""What a transaction at PostgreSQL is bounded by, and what becomes of it when its server changes."""

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from app.adapters.db.engine import check_writes, open_engine, reading, writing
from app.adapters.db.migrate import migrate
from app.adapters.db.postgres import MIGRATING, Limits
from app.domain.errors import Unavailable
from tests.postgres import PostgresServer

_LIMITS = {"lock_timeout": "3s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "10s"}
_LOOK_WITHIN_S = 30.0


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = open_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def other(postgres_url: str) -> Iterator[Engine]:
    """Reaches the same database by connections of its own."""
    engine = open_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def server(_postgres_server: PostgresServer) -> PostgresServer:
    return _postgres_server


@pytest.mark.parametrize("begin", [reading, writing])
def test_each_transaction_has_its_limits_and_leaves_none_in_the_session(engine: Engine, begin: object) -> None:
    # An object for the sake of pytest's ids.
    assert callable(begin)
    with begin(engine) as connection:
        within = _settings(connection)

    with engine.connect() as connection:
        left = _settings(connection)

    assert within == _LIMITS
    assert set(left.values()) == {"0"}


def test_a_transaction_that_stood_still_is_ended_and_may_be_tried_again(engine: Engine, other: Engine) -> None:
    with pytest.raises(Unavailable):
        _stand_still_in_a_transaction(engine, other)

    with writing(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_who_waits_for_a_lock_is_told_so_within_the_limit(engine: Engine, other: Engine) -> None:
    migrate(engine)
    with writing(other, MIGRATING) as holder:
        holder.execute(text("LOCK TABLE probes IN ACCESS EXCLUSIVE MODE"))

        with pytest.raises(Unavailable, match="lock timeout"):
            check_writes(engine)


def test_a_statement_ends_at_its_limit(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="statement timeout"), writing(engine, Limits(1, 0.1, 1)) as connection:
        connection.execute(text("SELECT pg_sleep(60)"))


def test_a_server_that_stands_still_is_hung_up_on(engine: Engine, server: PostgresServer) -> None:
    with reading(engine, Limits(0.1, 0.2, 60)) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        driver = connection.connection.driver_connection
        driver.answer_within_s = 0.5
        with server.standing_still(pid), pytest.raises(Exception, match="hung up on"):
            connection.execute(text("SELECT 1"))
        connection.invalidate()

    with reading(engine) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid


def test_a_call_for_a_connection_is_refused_in_seconds_where_all_are_taken(engine: Engine) -> None:
    taken = [engine.connect() for _ in range(32)]
    try:
        with pytest.raises(Unavailable), reading(engine):
            pass
    finally:
        for connection in taken:
            connection.close()


def test_connections_that_can_only_read_any_more_are_replaced_before_anything_is_done(
    engine: Engine,
) -> None:
    """A fail-over that leaves the old primary up; each connection is found out by itself."""
    migrate(engine)
    old = _fill_pool(engine, 4)
    for pid in old:
        # The session is told, and it alone: a new one may write.
        _make_read_only(engine, pid)

    check_writes(engine)
    with reading(engine) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

    assert pid not in old


def test_connections_whose_server_ended_are_replaced_before_anything_is_done(engine: Engine, other: Engine) -> None:
    migrate(engine)
    old = _fill_pool(engine, 4)
    with writing(other) as connection:
        for pid in old:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})

    check_writes(engine)
    with reading(engine) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

    assert pid not in old


def test_a_server_that_turns_read_only_within_a_transaction_is_left(engine: Engine) -> None:
    migrate(engine)
    with reading(engine) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

    with pytest.raises(Unavailable):
        _write_to_one_that_turns_read_only(engine)

    with reading(engine) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid


def test_a_server_that_can_only_be_read_is_unavailable_and_not_ready(engine: Engine, other: Engine) -> None:
    migrate(engine)
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    engine.dispose()

    with pytest.raises(Unavailable, match="read-only"):
        check_writes(engine)


def test_a_server_that_comes_back_within_two_seconds_is_waited_for(engine: Engine, server: PostgresServer) -> None:
    migrate(engine)
    name = _name(engine)
    engine.dispose()
    server.refuse(name)
    back = threading.Timer(0.5, server.admit, [name])
    back.start()

    check_writes(engine)

    back.join()


def test_the_first_of_several_servers_that_may_write_is_taken(postgres_url: str) -> None:
    away = "host=127.0.0.1:1"
    folder = postgres_url.partition("host=")[2]
    several = open_engine(postgres_url.replace(f"host={folder}", f"{away}&host={folder}:5432"))

    with reading(several) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    several.dispose()


def test_statements_are_prepared_only_where_the_address_says_so(postgres_url: str) -> None:
    plain, preparing = open_engine(postgres_url), open_engine(f"{postgres_url}&prepare_threshold=1")

    assert _prepared(plain) == 0
    assert _prepared(preparing) > 0


def test_what_the_address_says_of_its_connections_stays(postgres_url: str) -> None:
    engine = open_engine(f"{postgres_url}&application_name=mine&keepalives_idle=33")
    with reading(engine) as connection:
        driver = connection.connection.driver_connection
        parameters = driver.info.get_parameters()
    engine.dispose()

    assert parameters["application_name"] == "mine"
    assert parameters["keepalives_idle"] == "33"
    assert parameters["tcp_user_timeout"] == "30000"


def _settings(connection: Connection) -> dict[str, str]:
    return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _LIMITS}


def _stand_still_in_a_transaction(engine: Engine, other: Engine) -> None:
    with writing(engine, Limits(1, 1, 0.05)) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        deadline = time.monotonic() + _LOOK_WITHIN_S
        while _is_there(other, pid):
            assert time.monotonic() < deadline
        connection.execute(text("SELECT 1"))


def _write_to_one_that_turns_read_only(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("UPDATE probes SET written_at = 1"))


def _is_there(engine: Engine, pid: int) -> bool:
    with reading(engine) as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        return bool(connection.execute(query, {"pid": pid}).scalar_one())


def _fill_pool(engine: Engine, count: int) -> set[int]:
    """Leave so many idle connections in the pool; return their servers' process ids."""
    connections = [engine.connect() for _ in range(count)]
    pids = {connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in connections}
    for connection in connections:
        connection.close()
    return pids


def _make_read_only(engine: Engine, pid: int) -> None:
    held = []
    while True:
        connection = engine.connect()
        held.append(connection)
        if connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == pid:
            connection.execute(text("SET default_transaction_read_only = on"))
            connection.commit()
            break
    for connection in held:
        connection.close()


def _name(engine: Engine) -> str:
    with reading(engine) as connection:
        return str(connection.execute(text("SELECT current_database()")).scalar_one())


def _prepared(engine: Engine) -> int:
    with reading(engine) as connection:
        for _ in range(3):
            connection.execute(text("SELECT 1"))
        found = int(connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())
    engine.dispose()
    return found
