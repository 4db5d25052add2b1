"""Costs of single steps by the size of their input: workers, running batches, recorded lines."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import cast

import redis
from sqlalchemy import Engine, text

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.tables import metadata
from app.adapters.roster import RedisRoster
from app.config import Settings
from app.domain import ids
from app.domain.batch import Batch, Usage
from app.domain.lifecycle import Status
from app.domain.result import Result, answered
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import LaneState, Planned, WorkerState
from app.wiring.stores import open_bare_redis

_ROUNDS = 5
_COMMIT_S = 3.0
_WRITERS = 4
_LINES_PER_TASK = 50
_RECORD_ROWS = 1_000
_SCRATCH_DB = 1


@dataclass(frozen=True)
class RosterRead:
    """The cost of a `roster.workers()` with `workers` workers alive."""

    workers: int
    reader_cpu_s: float
    redis_cpu_s: float
    bytes_out: float


@dataclass(frozen=True)
class StoreReads:
    """The costs of control's repeated reads, and the size of rows, in a database."""

    # `undispatched(200)` and `outstanding_totals()` with 200 batches running: part of a refill.
    running_s: float
    # `unrecorded` of a batch with nearly every line recorded: a look of repair.
    bits_s: float
    bits_rows: int
    row_bytes: float


def read_roster(settings: Settings, workers: int, tasks_held: int) -> RosterRead:
    """Fill a roster in a scratch database of Redis, and read the roster like a worker does every second."""
    client = open_bare_redis(settings)
    client.connection_pool.connection_kwargs["db"] = _SCRATCH_DB
    client.flushdb()
    roster = RedisRoster(client)
    states = [_state(number, tasks_held) for number in range(workers)]
    rounds = max(20, 2_000 // workers)
    reads = [_read_rounds(client, roster, states, rounds) for _ in range(_ROUNDS)]
    client.flushdb()
    client.close()
    return RosterRead(workers, *(statistics.median(column) for column in zip(*reads, strict=True)))


def read_stores(url: str, *, batches: int, rows: int) -> StoreReads:
    """Fill an empty database with running batches, give the first all results but one, and time control's queries."""
    engine = open_engine(url)
    metadata.create_all(engine)
    store, results = SqlBatchStore(engine), SqlResultStore(engine)
    for number in range(batches):
        _add_running(store, f"batch_{number}", rows)
    empty = _database_bytes(engine)
    store.move_cursor("batch_0", 0, -(-rows // _LINES_PER_TASK))
    for first in range(0, rows, _RECORD_ROWS):
        results.record([_result("batch_0", position) for position in range(first, min(first + _RECORD_ROWS, rows - 1))])
    row_bytes = (_database_bytes(engine) - empty) / rows
    running_s = _seconds(lambda: (store.undispatched(batches), store.outstanding_totals()))
    bits_s = _seconds(lambda: results.unrecorded(["batch_0"]))
    engine.dispose()
    return StoreReads(running_s, bits_s, rows, row_bytes)


def commit_rate(url: str, *, batches: int) -> float:
    """Return the commits per second of single-line transactions by four processes, on `batches` batches."""
    engine = open_engine(url)
    metadata.create_all(engine)
    store = SqlBatchStore(engine)
    names = [f"batch_commit_{batches}_{number}" for number in range(batches)]
    for name in names:
        _add_running(store, name, 50_000)
    engine.dispose()
    with ProcessPoolExecutor(_WRITERS, mp_context=get_context("spawn")) as pool:
        # Start the processes before the count begins.
        list(pool.map(time.sleep, [0.5] * _WRITERS))
        done = pool.map(_commit, [url] * _WRITERS, [names[each % batches] for each in range(_WRITERS)], range(_WRITERS))
    return sum(done) / _COMMIT_S


def _state(number: int, tasks_held: int) -> WorkerState:
    held = tuple(ids.task_id("batch", number * tasks_held + task) for task in range(tasks_held))
    return WorkerState(f"worker-{number}@some-host-{number}", held, {DEFAULT_UPSTREAM: LaneState(64, 1.0)})


def _read_rounds(
    client: redis.Redis, roster: RedisRoster, states: list[WorkerState], rounds: int
) -> tuple[float, float, float]:
    """Return, for a read, the reader's CPU time, the CPU time of Redis, and the bytes sent by Redis."""
    for state in states:
        roster.report(state)
    before, cpu = _redis_work(client), time.process_time()
    for _ in range(rounds):
        found = len(roster.workers())
        if found != len(states):
            raise RuntimeError(f"{found} of {len(states)} workers were found: reading took longer than a report lives.")
    spent, after = time.process_time() - cpu, _redis_work(client)
    return spent / rounds, (after[0] - before[0]) / rounds, (after[1] - before[1]) / rounds


def _commit(url: str, batch_id: str, writer: int) -> int:
    engine = open_engine(url)
    results = SqlResultStore(engine)
    done, until = 0, time.monotonic() + _COMMIT_S
    while time.monotonic() < until:
        results.record([_result(batch_id, done * _WRITERS + writer)])
        done += 1
    engine.dispose()
    return done


def _add_running(store: SqlBatchStore, batch_id: str, lines: int) -> None:
    now = time.time()
    store.add(
        Batch(
            id=batch_id,
            tenant_id="tenant",
            endpoint="/v1/chat/completions",
            input_file_id=f"file-{batch_id}",
            completion_window="24h",
            status=Status.VALIDATING,
            created_at=now,
            expires_at=now + 86_400,
            input_blob=f"files/{batch_id}",
        )
    )
    store.accept(batch_id, Planned(f"plans/{batch_id}", _LINES_PER_TASK, [(DEFAULT_UPSTREAM, lines)], "stand-in"), now)


def _result(batch_id: str, position: int) -> Result:
    # The length of the stand-in's answer to a short question.
    body = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"message":{"content":"%s"}}]}' % (b"x" * 200)
    payload = answered(batch_id, position, f"line-{position:05}", 200, "req-1", body)
    return Result(batch_id, position, True, payload, Usage(9, 0, 12, 0))


def _seconds(do: Callable[[], object]) -> float:
    do()
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _database_bytes(engine: Engine) -> int:
    is_sqlite = engine.dialect.name == "sqlite"
    query = (
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        if is_sqlite
        else "SELECT pg_total_relation_size('segments') + pg_total_relation_size('sections')"
    )
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def _redis_work(client: redis.Redis) -> tuple[float, int]:
    info = cast("dict[str, float]", client.info())
    return info["used_cpu_user"] + info["used_cpu_sys"], int(info["total_net_output_bytes"])
