"""The start of a process: the settings are read, and the parts awaited; the wait has a bound, and a fault is named."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import structlog

from app.adapters.broker.check import explain_eviction
from app.adapters.db.engine import check as check_database
from app.adapters.db.engine import open_engine
from app.adapters.db.schema import check_schema
from app.config import Process, Settings, load_settings
from app.domain.errors import SettingInvalid, WylonError
from app.wiring.logs import set_up_logs
from app.wiring.parts import check_broker, part_checks
from app.wiring.readiness import told
from app.wiring.stores import open_bare_redis, open_stores

log = structlog.get_logger()

# Parts that start together with this process answer in a moment: no message is needed.
_FIRST_WORD_S = 3.0
_NEXT_WORD_S = 10.0
_LOOK_EVERY_S = 0.5

Checks = Mapping[str, Callable[[], None]]


class PartsMissing(WylonError):
    """Parts needed by a process did not answer in time; the message names the parts."""


@contextmanager
def ending_plainly() -> Iterator[None]:
    """End the process with 1, and with a line in the log that says why, on a fault that an operator can mend."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or str(fault)
        _end(f"{fault.filename}: {reason}" if fault.filename else reason)
    except WylonError as fault:
        _end(str(fault))


def settings_of_start(process: Process) -> Settings:
    """Read the settings of a starting process, and set up its logs; a wrong setting ends the process."""
    with ending_plainly():
        try:
            settings = load_settings(process=process)
        except SettingInvalid:
            set_up_logs(None)
            raise
    set_up_logs(settings)
    return settings


def await_parts(
    checks: Checks,
    tell: Callable[[str], None],
    *,
    within_s: float,
    first_word_s: float = _FIRST_WORD_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Return once every part answers.

    Args:
        checks: functions by part name; a function raises while its part can't be used.
        tell: called from time to time with the missing parts and the reasons.
        within_s: longest wait, for all parts together.
        first_word_s: time until the first call of `tell`.
        should_stop: whether the process was asked to end, which ends the wait.

    Raises:
        PartsMissing: a part did not answer in time.
        SettingInvalid: waiting can't help, since a setting is wrong.
    """
    pending, began_at = dict(checks), time.monotonic()
    tell_at = began_at + first_word_s
    while pending and not should_stop():
        faults = {name: fault for name, check in pending.items() if (fault := _fault_of(check)) is not None}
        pending = {name: check for name, check in pending.items() if name in faults}
        now, words = time.monotonic(), "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        if pending and now - began_at >= within_s:
            raise PartsMissing(f"No start within {within_s:g} s for want of {words}")
        if pending and now >= tell_at:
            tell(f"waiting for {words}")
            tell_at = now + _NEXT_WORD_S
        if pending:
            time.sleep(_LOOK_EVERY_S)


def await_start(settings: Settings, *, is_beat: bool = False) -> None:
    """Wait for the database with this program's schema, for the broker and for the storage.

    The log names the missing parts. Beat needs no storage.

    Raises:
        SystemExit: with 1, if a part did not answer in time or a setting is wrong.
    """
    stores, client = open_stores(settings), open_bare_redis(settings)
    checks = part_checks(settings, stores, client) | {"database": lambda: check_schema(stores.engine)}
    if is_beat:
        del checks["storage"]
    try:
        with ending_plainly():
            await_parts(checks, lambda words: log.warning("start.waiting", parts=words), within_s=settings.start_wait_s)
            if (reason := explain_eviction(client)) is not None:
                log.warning("broker.may_evict", advice=reason)
    finally:
        client.close()
        stores.engine.dispose()


def await_database(
    settings: Settings, tell: Callable[[str], None], *, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Wait for a database that takes writes, with or without a schema; PartsMissing if the wait takes too long."""
    engine = open_engine(settings.database_url)
    try:
        await_parts(
            {"database": lambda: check_database(engine)}, tell, within_s=settings.start_wait_s, should_stop=should_stop
        )
    finally:
        engine.dispose()


def await_broker(
    settings: Settings, tell: Callable[[str], None], *, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Wait for an external broker; SettingInvalid if waiting can't help, PartsMissing if the wait takes too long."""
    client = open_bare_redis(settings)
    try:
        await_parts(
            {"broker": lambda: check_broker(settings.broker, client)},
            tell,
            within_s=settings.start_wait_s,
            should_stop=should_stop,
        )
        if (reason := explain_eviction(client)) is not None:
            tell(f"Warning: {settings.broker.shown}: {reason}.")
    finally:
        client.close()


def _end(reason: str) -> NoReturn:
    log.critical("start.failed", error=reason)
    raise SystemExit(1) from None


def _fault_of(check: Callable[[], None]) -> str | None:
    try:
        check()
    except SettingInvalid:
        raise
    except Exception as fault:
        return told(fault)
    return None
