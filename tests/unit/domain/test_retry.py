import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.retry import RetryPolicy, Trouble, trouble_of

POLICY = RetryPolicy()
tries = st.integers(1, 10_000)
random = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((200, 201, 204), Trouble.NONE),
        ((301, 400, 404, 405, 413, 422, 600, 999), Trouble.FINAL),
        ((401, 402, 403, 407), Trouble.DENIED),
        ((408, 409, 425, 500, 501, 599), Trouble.FLAKY),
        ((429, 502, 503, 504, 529), Trouble.AWAY),
    ],
)
def test_a_status_says_what_helps(statuses: tuple[int, ...], expected: Trouble) -> None:
    assert {trouble_of(status) for status in statuses} == {expected}


@pytest.mark.parametrize(("status", "expected"), [(404, Trouble.DENIED), (405, Trouble.DENIED), (400, Trouble.FINAL)])
def test_a_path_where_nothing_of_a_model_server_answers_is_no_fault_of_the_line(status: int, expected: Trouble) -> None:
    assert trouble_of(status, names_fault=False) is expected


@given(tries, random)
def test_a_delay_is_never_negative_nor_past_the_cap(tried: int, chance: float) -> None:
    assert 0 <= POLICY.delay_s(tried, None, chance) <= POLICY.cap_s


def test_the_span_of_the_jitter_doubles_up_to_the_cap() -> None:
    spans = [POLICY.delay_s(tried, None, 1.0) for tried in (1, 2, 3, 20)]

    assert spans == [1.0, 2.0, 4.0, POLICY.cap_s]


def test_full_jitter_may_be_nothing_at_all() -> None:
    assert POLICY.delay_s(5, None, 0.0) == 0.0


@given(tries, random, st.floats(0.001, 600))
def test_what_the_upstream_asks_for_is_the_least_that_is_waited(tried: int, chance: float, asked_s: float) -> None:
    assert asked_s <= POLICY.delay_s(tried, asked_s, chance) <= asked_s + POLICY.cap_s


def test_an_upstream_that_asks_for_days_is_asked_again_sooner() -> None:
    assert POLICY.delay_s(1, 86_400.0, 0.0) == POLICY.retry_after_cap_s


@pytest.mark.parametrize("asked_s", [0.0, -5.0])
def test_an_instant_gone_by_asks_for_nothing(asked_s: float) -> None:
    assert POLICY.delay_s(1, asked_s, 0.5) == POLICY.delay_s(1, None, 0.5)
