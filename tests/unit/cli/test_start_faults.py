import click
import pytest
from sqlalchemy.exc import ArgumentError

from app.cli.up.start_faults import told_in_one_line
from app.domain.errors import Unavailable


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OSError(28, "No space left on device", "/data"), "Can't use /data: No space left on device."),
        (OSError("odd"), "The system refused: odd."),
        (Unavailable("It does\n\tnot answer."), "It does not answer."),
        (Unavailable("No answer from redis://:hush@host:1/0"), "No answer from redis://…@host:1/0"),
        (ArgumentError("password=hush"), "The database of WYLON_DATABASE_URL can't be used: password=…"),
    ],
)
def test_a_fault_at_the_start_is_told_in_one_line_without_passwords(fault: Exception, told: str) -> None:
    with pytest.raises(click.ClickException) as error, told_in_one_line():
        raise fault

    assert error.value.message == told
    assert error.value.exit_code == 1


def test_an_output_that_nobody_reads_is_left_to_click_which_says_nothing() -> None:
    with pytest.raises(BrokenPipeError), told_in_one_line():
        raise BrokenPipeError(32, "Broken pipe")


def test_a_bug_keeps_its_trace() -> None:
    with pytest.raises(KeyError), told_in_one_line():
        raise KeyError
