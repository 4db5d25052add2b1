from email.utils import formatdate

import pytest

from app.adapters.upstream.retry_after import read_retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
    ],
)
def test_a_wait_is_read_in_seconds_as_a_date_and_in_milliseconds(headers, wait_s):
    assert read_retry_after(headers, NOW) == wait_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "0",
        "-5",
        "nan",
        "inf",
        "1e300",
        "86401",
        formatdate(NOW - 1, usegmt=True),
        formatdate(NOW + 1e7, usegmt=True),
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 99 Dec 2026 23:59:59 GMT",
    ],
)
def test_a_wait_that_makes_no_sense_is_ignored(text):
    assert read_retry_after({"retry-after": text}, NOW) is None


def test_an_answer_may_ask_for_no_wait():
    assert read_retry_after({}, NOW) is None
