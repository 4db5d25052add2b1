import time
from email.utils import formatdate

import pytest

from app.adapters.upstream.retry_after import read_retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
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
        "1_0",
        "１２",
        "1" * 5_000,
        "7, 9",
        "Fri, 31 Dec",
        "x" * 100_000,
        formatdate(NOW - 1, usegmt=True),
        formatdate(NOW + 1e7, usegmt=True),
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 99 Dec 2026 23:59:59 GMT",
    ],
)
def test_a_wait_that_makes_no_sense_is_ignored(text):
    assert read_retry_after({"retry-after": text}, NOW) is None


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 2094 08:49:37 GMT",
        "Sun, 06 Nov 2094 08:49:37 -0000",
        "Sun, 06 Nov 2094 08:49:37 +0000",
        "Sun, 06 Nov 2094 09:49:37 +0100",
        "Sun, 06 Nov 2094 08:49:37 UTC",
        "Sun, 06 Nov 2094 08:49:37",
        "Sun Nov  6 08:49:37 2094",
        "6 nov 2094 8:49:37 gmt",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_date_in_any_form_is_compared_with_the_date_of_the_answer(date, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        wait_s = read_retry_after({"retry-after": date, "date": "Sun, 06 Nov 2094 08:48:37 GMT"}, NOW)
    finally:
        monkeypatch.undo()
        time.tzset()

    assert wait_s == 60.0


def test_a_date_of_two_digits_is_of_this_century_or_the_last():
    headers = {"retry-after": "Friday, 06-Nov-26 08:49:37 GMT", "date": "Friday, 06-Nov-26 08:49:30 GMT"}

    assert read_retry_after(headers, NOW) == 7.0


@pytest.mark.parametrize("ahead_s", [-86_400 * 400, -900, 900, 86_400 * 400])
def test_a_server_with_another_clock_is_left_alone_as_long_as_it_asks(ahead_s):
    theirs = NOW + ahead_s
    headers = {"retry-after": formatdate(theirs + 5, usegmt=True), "date": formatdate(theirs, usegmt=True)}

    assert read_retry_after(headers, NOW) == 5.0


@pytest.mark.parametrize("date", [{}, {"date": "soon"}, {"date": ""}])
def test_a_date_that_nothing_of_the_servers_can_be_compared_with_asks_for_a_minute_at_most(date):
    assert read_retry_after({"retry-after": formatdate(NOW + 5_000, usegmt=True)} | date, NOW) == 60.0
    assert read_retry_after({"retry-after": formatdate(NOW - 5_000, usegmt=True)} | date, NOW) is None


def test_a_leap_second_is_a_second():
    headers = {"retry-after": "Fri, 31 Dec 2027 23:59:60 GMT", "date": "Fri, 31 Dec 2027 23:59:29 GMT"}

    assert read_retry_after(headers, NOW) == 30.0


def test_an_answer_may_ask_for_no_wait():
    assert read_retry_after({}, NOW) is None
