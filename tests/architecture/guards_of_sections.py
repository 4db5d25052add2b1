"""The guards of what is recorded and sent of a batch, which rest on the rows of its sections."""

from tests.architecture.guard import Guard

_BATCH_STORE = "app/adapters/db/batch_store.py"
_MOVES = "app/adapters/db/moves.py"
_RESULT_STORE = "app/adapters/db/result_store.py"
_SECTION_ROWS = "app/adapters/db/section_rows.py"

GUARDS_OF_SECTIONS = (
    Guard(
        "one bit for each line: a second result is dropped",
        _RESULT_STORE,
        "if not bits[place] & 1 << bit:",
        "if bits:",
        "tests/races/test_duplicate_records.py::test_of_two_results_of_a_line_the_first_stays_and_counts_once[sqlite]",
    ),
    Guard(
        "status guard: a move from the status that was read",
        _MOVES,
        ', batches.c.status == bindparam("old_status"))',
        ")",
        "tests/races/test_cancel_and_expiry.py::test_of_two_that_read_the_same_status_one_moves_it[postgresql-True]",
    ),
    Guard(
        "status guard: no result after the seal",
        _MOVES,
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
        "sections that a batch got meanwhile are locked before the batch",
        _MOVES,
        "if total and not locked.sections:",
        "if False:",
        "tests/races/test_accept_and_end.py::"
        "test_who_finds_a_batch_accepted_behind_the_search_for_its_sections_locks_these_before_the_batch",
    ),
    Guard(
        "sections are locked in one order as their batch moves",
        _SECTION_ROWS,
        ".order_by(sections.c.number)",
        ".order_by(sections.c.number.desc())",
        "tests/contracts/test_postgres_locks.py::test_who_waits_for_a_row_has_those_locked_that_come_before_it",
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
