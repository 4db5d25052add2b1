"""What keeps a line from being called for when it must not be, or from losing a try to an outage."""

from tests.architecture.guard import Guard

_ENGINE_GUARDS = "tests/unit/workers/test_engine_guards.py"
_WITHHELD = "tests/unit/adapters/test_upstream_withheld.py"

GUARDS_OF_CALLS = (
    Guard(
        "stop check: no request of a batch that runs no more",
        "workers/engine.py",
        "not line.run.batch.is_stopped and ",
        "",
        f"{_ENGINE_GUARDS}::test_no_request_goes_out_once_the_state_has_changed_while_its_line_is_read[stop]",
    ),
    Guard(
        "drain check: no request of a worker that ends",
        "workers/engine.py",
        "not self._is_draining and ",
        "",
        f"{_ENGINE_GUARDS}::test_no_request_goes_out_once_the_state_has_changed_while_its_line_is_read[drain]",
    ),
    Guard(
        "lease, stop and drain are looked at after a line was read or noted",
        "app/services/execution.py",
        "if not line.caller.may_send():",
        "if False:",
        f"{_ENGINE_GUARDS}::test_no_request_goes_out_once_the_state_has_changed_while_its_line_is_noted[lose_the_lease]",
    ),
    Guard(
        "a check call comes before the call that may be a line's last",
        "app/adapters/upstream/balanced.py",
        "if checked.trouble is not Trouble.NONE:",
        "if False:",
        "tests/unit/services/test_lone_lines.py::test_an_outage_of_hours_loses_no_line_though_no_other_line_is_there",
    ),
    Guard(
        "lease, stop and drain are looked at after a check call",
        "app/adapters/upstream/balanced.py",
        "if not caller.may_send():",
        "if False:",
        "tests/unit/adapters/test_balanced_checks.py::test_a_line_that_was_lost_during_its_check_call_is_not_called",
    ),
    Guard(
        "lease, stop and drain are looked at once the connection is there",
        "app/adapters/upstream/client.py",
        "if not caller.may_send():",
        "if False:",
        f"{_WITHHELD}::test_nothing_is_sent_where_the_line_has_become_anothers_while_it_was_connected",
    ),
    Guard(
        "failures of a line that was convicted open no circuit",
        "app/domain/circuit.py",
        "elif sign in (Sign.FAILING, Sign.GONE) and not is_suspect:",
        "elif sign in (Sign.FAILING, Sign.GONE):",
        "tests/unit/adapters/test_balanced_refusals.py::test_failures_of_a_line_that_was_convicted_open_nothing",
    ),
    Guard(
        "an outage uses no try",
        "app/domain/verdict.py",
        "if circuit.is_open or circuit.term != before.term:",
        "if False:",
        "tests/unit/domain/test_circuit.py::test_a_failure_of_an_outage_is_the_servers_also_once_the_outage_is_over",
    ),
    Guard(
        "answers to calls that began before a failure convict no line",
        "app/domain/verdict.py",
        "is_line = circuit.has_answered_since(before.failed_at)",
        "is_line = True",
        "tests/unit/domain/test_circuit.py::test_answers_to_calls_that_began_before_a_failure_do_not_convict_its_line",
    ),
    Guard(
        "a batch leaves calls to whoever comes",
        "workers/batch_turns.py",
        "slots if free > kept else max(free // 2, 1)",
        "slots",
        "tests/unit/workers/test_engine_shares.py::test_sixty_fast_batches_end_beside_one_whose_lines_hang",
    ),
    Guard(
        "beside lines that hang a worker takes more lines",
        "workers/engine.py",
        "lane.room.set_wide(is_wide=runners.has_hanging_batch())",
        "pass",
        "tests/integration/test_hanging_batches.py::test_they_end_soon",
    ),
    Guard(
        "in a slow window a batch with nothing outstanding gets a turn",
        "app/domain/fairness.py",
        "is_slow = self.window.is_slow or is_held",
        "is_slow = is_held",
        "tests/unit/domain/test_fairness_beside_hanging.py"
        "::test_in_a_slow_window_a_batch_with_nothing_outstanding_gets_a_turn",
    ),
    Guard(
        "a batch beyond its share begins nothing while another waits",
        "workers/batch_turns.py",
        "if len(self._order) == 1 or turn.in_flight < (share if share >= 1 else _lines_a_turn(slots)):",
        "if True:",
        "tests/unit/workers/test_batch_turns.py::test_a_batch_beyond_its_share_begins_nothing_while_another_waits",
    ),
    Guard(
        "where all workers stand still none gives lines back",
        "workers/lane.py",
        "return min(room, waiting)",
        "return waiting",
        "tests/unit/workers/test_engine_shares.py::test_where_all_workers_stand_still_none_gives_anything_back",
    ),
    Guard(
        "data that nobody asked for closes a kept connection",
        "app/adapters/upstream/connection.py",
        "could not be told from this data.\n            self.abort()",
        "could not be told from this data.",
        "tests/unit/adapters/test_upstream_connection.py::"
        "test_a_kept_connection_on_which_something_comes_unasked_is_closed_and_its_bytes_are_no_answer",
    ),
    Guard(
        "repair reads the queue before the workers",
        "app/services/repair.py",
        "accounted = self._queue.queued_tasks()\n"
        "        accounted |= {task for worker in self._roster.workers() for task in worker.held_tasks}",
        "accounted = {task for worker in self._roster.workers() for task in worker.held_tasks}\n"
        "        accounted |= self._queue.queued_tasks()",
        "tests/unit/services/test_lost_tasks.py::test_a_task_that_a_worker_takes_amid_each_look_is_not_lost",
    ),
)
