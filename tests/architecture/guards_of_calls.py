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
        "app/domain/circuit.py",
        "if circuit.is_open or circuit.term != before.term:",
        "if False:",
        "tests/unit/services/test_whose_fault.py::test_one_outage_after_the_other_loses_no_line[500]",
    ),
)
