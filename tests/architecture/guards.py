"""Take each guard out of a copy of the project, one at a time, and see the test that is named for it fail.

`python -m tests.architecture.guards` prints a table; it exits with 1 where a guard goes and no test says so.
With words behind it only guards are tried whose names have one of the words.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.architecture.guard import Guard
from tests.architecture.guards_of_calls import GUARDS_OF_CALLS
from tests.architecture.guards_of_sections import GUARDS_OF_SECTIONS
from tests.architecture.source import ROOT

_RUN_S = 180.0
_PASSED, _FAILED = 0, 1
_BATCH_STORE = "app/adapters/db/batch_store.py"
_MOVES = "app/adapters/db/moves.py"


_SQLITE = "app/adapters/db/sqlite.py"
_POSTGRES = "app/adapters/db/postgres.py"

GUARDS = (
    *GUARDS_OF_CALLS,
    *GUARDS_OF_SECTIONS,
    Guard(
        "SQLite syncs each commit",
        _SQLITE,
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=OFF",
        "tests/unit/adapters/test_sqlite_engine.py::test_each_connection_syncs_each_commit",
    ),
    Guard(
        "SQLite syncs a commit of a group",
        "app/adapters/db/group_commit.py",
        "if self._group is not None and is_synced and not self._group.is_synced:",
        "if False:",
        "tests/unit/adapters/test_group_commit.py::"
        "test_a_commit_that_must_be_synced_is_not_left_to_a_group_that_does_not_sync",
    ),
    Guard(
        "a thread waits for the commit of its group",
        "app/adapters/db/group_commit.py",
        "                self._await_commit(group, limits.statement_s)",
        "                pass",
        "tests/unit/adapters/test_group_commit.py::"
        "test_no_thread_goes_on_and_no_other_connection_sees_its_rows_before_the_commit",
    ),
    Guard(
        "PostgreSQL ends a transaction that stands still",
        _POSTGRES,
        '"idle_in_transaction_session_timeout": self.idle_s,',
        "",
        "tests/contracts/test_postgres_sessions.py::"
        "test_a_transaction_that_stood_still_is_ended_and_may_be_tried_again",
    ),
    Guard(
        "PostgreSQL ends the wait for a lock",
        _POSTGRES,
        '"lock_timeout": self.lock_s,',
        "",
        "tests/contracts/test_postgres_sessions.py::test_who_waits_for_a_lock_is_told_so_within_the_limit",
    ),
    Guard(
        "a server that can only read does nothing",
        _POSTGRES,
        'is_read_only == "off"',
        "True",
        "tests/contracts/test_postgres_sessions.py::"
        "test_connections_that_can_only_read_any_more_are_replaced_before_anything_is_done",
    ),
    Guard(
        "lease check: a worker that stood still starts nothing it holds",
        "workers/engine.py",
        " and self._lease.covers(line.run.term)",
        "",
        "tests/unit/workers/test_engine_leases.py::test_no_line_is_started_once_the_lease_has_lapsed",
    ),
    Guard(
        "repair looks first which lines have a result",
        "app/services/repair.py",
        "(again, Delivery.AGAIN)",
        "(again, Delivery.FIRST)",
        "tests/unit/services/test_upkeep.py::test_what_a_dead_worker_held_is_lost",
    ),
    Guard(
        "a refill that stood still sends nothing that repair sends",
        "app/adapters/queue.py",
        "if (redis.call('get', KEYS[2]) or '') ~= ARGV[1] then return 0 end",
        "",
        "tests/integration/test_chord.py::test_tasks_of_a_batch_that_was_fenced_after_they_were_decided_on_are_refused",
    ),
    Guard(
        "repair fences a batch before a task of it is lost",
        "app/services/lost_tasks.py",
        "self._roster.fence(suspect)",
        "pass",
        "tests/unit/services/test_lost_tasks.py::test_a_batch_is_fenced_before_a_task_of_it_is_lost",
    ),
    Guard(
        "a lost task's time starts anew for every process that repairs",
        "app/services/lost_tasks.py",
        "self._roster.not_missing(lost)",
        "pass",
        "tests/unit/services/test_lost_tasks.py::"
        "test_a_task_that_one_process_found_lost_is_not_lost_at_once_for_another",
    ),
    Guard(
        "a first try that is delivered again looks first which lines have a result",
        "workers/line_process.py",
        "how is Delivery.FIRST and request",
        "False and request",
        "tests/unit/workers/test_line_process.py::"
        "test_a_first_try_that_is_delivered_again_looks_first_which_lines_have_a_result",
    ),
    Guard(
        "finalize lease: one holder",
        _BATCH_STORE,
        ".where(OF_ID, _MAY_LEASE)",
        ".where(OF_ID)",
        "tests/races/test_two_finalizers.py::test_the_second_of_two_processes_waits_and_gets_no_lease[sqlite]",
    ),
    Guard(
        "finalize lease: the holder seals",
        _MOVES,
        "if batch.lease_owner not in (None, token):",
        "if False:",
        "tests/races/test_two_finalizers.py::test_only_the_holder_of_the_lease_seals[sqlite]",
    ),
    Guard(
        "finalize lease: the holder finishes",
        _BATCH_STORE,
        "Event.FILES_WRITTEN, now, values, token)",
        "Event.FILES_WRITTEN, now, values)",
        "tests/races/test_two_finalizers.py::test_only_the_holder_of_the_lease_finishes[sqlite]",
    ),
    Guard(
        "finalize lease: the holder pauses",
        _BATCH_STORE,
        "_PAUSE = update(batches).where(HELD)",
        "_PAUSE = update(batches).where(OF_ID)",
        "tests/contracts/test_batch_leases.py::test_nobody_pauses_the_lease_of_another[sqlite]",
    ),
    Guard(
        "finalize lease: a lease is broken as it was seen",
        _BATCH_STORE,
        'where(HELD, batches.c.lease_renewals == bindparam("seen_renewals"))',
        'where(OF_ID, batches.c.lease_renewals == bindparam("seen_renewals"))',
        "tests/contracts/test_batch_leases.py::test_a_lease_that_was_paused_since_it_was_seen_is_not_broken[sqlite]",
    ),
    Guard(
        "finalize lease: a lease of one batch is broken",
        _BATCH_STORE,
        "update(batches).where(HELD, batches.c.lease_renewals",
        'update(batches).where(batches.c.lease_owner == bindparam("token"), batches.c.lease_renewals',
        "tests/contracts/test_batch_leases.py::"
        "test_a_lease_of_one_batch_changes_no_other_batch_of_the_same_holder[sqlite]",
    ),
    Guard(
        "a hash of an API key is keyed once",
        "app/adapters/db/api_key_store.py",
        ".where(api_keys.c.id == key_id, ~api_keys.c.is_keyed)",
        ".where(api_keys.c.id == key_id)",
        "tests/contracts/test_api_key_stores.py::"
        "test_a_hash_that_another_process_has_keyed_meanwhile_is_not_keyed_twice",
    ),
)


def main(words: Sequence[str] = ()) -> int:
    """Try all guards, or those whose names have one of the words; return the exit code."""
    guards = [guard for guard in GUARDS if not words or any(word in guard.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        copy = Path(folder).resolve()
        copy_project(copy)
        if run_tests(copy, sorted({guard.test for guard in guards})) != _PASSED:
            _say("The named tests don't pass with all guards in place.")
            return 1
        unnoticed = 0
        for guard in guards:
            with _taken_out(guard, copy):
                is_noticed = run_tests(copy, [guard.test]) == _FAILED
            unnoticed += not is_noticed
            _say(f"{'noticed' if is_noticed else 'UNNOTICED':<10} {guard.name:<52} {guard.test.partition('::')[2]}")
    _say(f"{len(guards)} guards, {unnoticed} gone unnoticed")
    return 1 if unnoticed else 0


def run_tests(copy: Path, tests: list[str]) -> int:
    """Run tests in a copy of the project; return pytest's exit code, which is 1 only where a test failed."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    # An editable install would bring in the project itself, with all its guards.
    imported = _run(["-c", "import app; print(app.__file__)"], copy, environment)
    if not imported.stdout.startswith(str(copy)):
        raise RuntimeError(f"the copy in {copy} is not what is imported: {imported.stdout}{imported.stderr}")
    return _run(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests], copy, environment).returncode


def _run(arguments: list[str], copy: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_RUN_S)


def copy_project(copy: Path) -> None:
    """Copy what git knows, and what it would be told of."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)


@contextmanager
def _taken_out(guard: Guard, copy: Path) -> Iterator[None]:
    path = copy / guard.file
    whole = path.read_text("utf-8")
    if whole.count(guard.text) != 1:
        raise RuntimeError(f"{guard.name}: its text is in {guard.file} {whole.count(guard.text)} times")
    path.write_text(whole.replace(guard.text, guard.without), "utf-8")
    try:
        yield
    finally:
        path.write_text(whole, "utf-8")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
