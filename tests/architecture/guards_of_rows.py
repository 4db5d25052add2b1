"""Whatever keeps transactions from spoiling each other's rows, or from losing them."""

from tests.architecture.guard import Guard

_BATCH_STORE = "app/adapters/db/batch_store.py"
_RESULT_STORE = "app/adapters/db/result_store.py"
_SECTION_ROWS = "app/adapters/db/section_rows.py"
_SQLITE = "app/adapters/db/sqlite.py"
_POSTGRES = "app/adapters/db/postgres.py"
_GROUP_COMMIT = "app/adapters/db/group_commit.py"

GUARDS_OF_ROWS = (
    Guard(
        "SQLite syncs each commit",
        _SQLITE,
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=OFF",
        "tests/unit/adapters/test_sqlite_engine.py::test_each_connection_syncs_each_commit",
    ),
    Guard(
        "SQLite syncs a commit of a group",
        _GROUP_COMMIT,
        "if self._group is not None and is_synced and not self._group.is_synced:",
        "if False:",
        "tests/unit/adapters/test_group_commit.py::"
        "test_a_commit_that_must_be_synced_is_not_left_to_a_group_that_does_not_sync",
    ),
    Guard(
        "a thread waits for the commit of its group",
        _GROUP_COMMIT,
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
        "one bit for each line: a second result is dropped",
        _RESULT_STORE,
        "if not bits[place] & 1 << bit:",
        "if bits:",
        "tests/races/test_duplicate_records.py::test_of_two_results_of_a_line_the_first_stays_and_counts_once[sqlite]",
    ),
    Guard(
        "status guard: a move from the status that was read",
        _BATCH_STORE,
        ', batches.c.status == bindparam("old_status"))',
        ")",
        "tests/races/test_cancel_and_expiry.py::test_of_two_that_read_the_same_status_one_moves_it[postgresql-True]",
    ),
    Guard(
        "status guard: no result after the seal",
        _BATCH_STORE,
        "close_sections(connection, batch_id)\n",
        "pass\n",
        "tests/races/test_record_and_seal.py::test_a_result_behind_the_seal_waits_and_is_dropped[sqlite]",
    ),
    Guard(
        "no result of a section that is closed",
        _RESULT_STORE,
        '.where(sections.c.batch_id.in_(bindparam("ids", expanding=True)), sections.c.is_open)',
        '.where(sections.c.batch_id.in_(bindparam("ids", expanding=True)))',
        "tests/races/test_record_and_seal.py::test_a_result_behind_the_seal_waits_and_is_dropped[sqlite]",
    ),
    Guard(
        "a section once closed stays closed",
        _SECTION_ROWS,
        "is_open=and_(sections.c.is_open, _TAKES_RESULTS)",
        "is_open=_TAKES_RESULTS",
        "tests/races/test_record_and_seal.py::test_a_result_behind_a_cancel_of_a_sealed_batch_is_dropped[sqlite]",
    ),
    Guard(
        "the lock of the sections while results are inserted",
        _RESULT_STORE,
        ".with_for_update()",
        "",
        "tests/races/test_duplicate_records.py::"
        "test_of_two_results_of_a_line_the_first_stays_and_counts_once[postgresql]",
    ),
    Guard(
        "the lock of the sections while their batch moves",
        _SECTION_ROWS,
        ".with_for_update()",
        "",
        "tests/races/test_record_and_seal.py::test_an_end_amid_a_record_waits_and_counts_its_result[postgresql]",
    ),
    Guard(
        "a writer locks sections in one order",
        _RESULT_STORE,
        ".order_by(sections.c.batch_id, sections.c.number)\n    .with_for_update()",
        ".order_by(sections.c.batch_id, sections.c.number.desc())\n    .with_for_update()",
        "tests/contracts/test_postgres_locks.py::test_who_waits_for_a_row_has_those_locked_that_come_before_it",
    ),
    Guard(
        "sections are locked in one order as their batch moves",
        _SECTION_ROWS,
        ".order_by(sections.c.number)",
        ".order_by(sections.c.number.desc())",
        "tests/contracts/test_postgres_locks.py::test_who_waits_for_a_row_has_those_locked_that_come_before_it",
    ),
    Guard(
        "finalize lease: one holder",
        _BATCH_STORE,
        ".where(_OF_ID, _MAY_LEASE)",
        ".where(_OF_ID)",
        "tests/races/test_two_finalizers.py::test_of_two_that_lease_a_batch_the_second_waits_and_gets_none[sqlite]",
    ),
    Guard(
        "finalize lease: the holder seals",
        _BATCH_STORE,
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
        "_PAUSE = update(batches).where(_HELD)",
        "_PAUSE = update(batches).where(_OF_ID)",
        "tests/contracts/test_batch_leases.py::test_nobody_pauses_the_lease_of_another[sqlite]",
    ),
    Guard(
        "finalize lease: a lease is broken as it was seen",
        _BATCH_STORE,
        'where(_HELD, batches.c.lease_renewals == bindparam("seen_renewals"))',
        'where(_OF_ID, batches.c.lease_renewals == bindparam("seen_renewals"))',
        "tests/contracts/test_batch_leases.py::test_a_lease_that_was_paused_since_it_was_seen_is_not_broken[sqlite]",
    ),
    Guard(
        "finalize lease: a lease of one batch is broken",
        _BATCH_STORE,
        "update(batches).where(_HELD, batches.c.lease_renewals",
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
    Guard(
        "cursor: moved from where it was read",
        _BATCH_STORE,
        'sections.c.next_task == bindparam("from_task"),',
        "",
        "tests/races/test_two_dispatchers.py::test_of_two_that_move_the_cursor_the_second_waits_and_does_not[sqlite]",
    ),
    Guard(
        "cursor: of a batch that runs",
        _BATCH_STORE,
        "sections.c.is_sending,\n",
        "\n",
        "tests/races/test_two_dispatchers.py::test_the_cursor_does_not_move_behind_a_cancel[sqlite]",
    ),
)
