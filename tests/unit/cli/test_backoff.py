from app.cli.up.backoff import LONGEST_DELAY_S, STABLE_AFTER_S, Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff()

    delays = [backoff.delay_s(lived_s=0.1) for _ in range(8)]

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_DELAY_S, LONGEST_DELAY_S]


def test_a_process_that_lived_long_starts_again_at_the_first_delay() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(lived_s=1.0)

    assert backoff.delay_s(lived_s=STABLE_AFTER_S) == 0.2
    assert backoff.delay_s(lived_s=1.0) == 0.4


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff()

    assert [backoff.delay_s(lived_s=0.0) for _ in range(10_000)][-1] == LONGEST_DELAY_S
