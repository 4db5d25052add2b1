"""The pace that a caller has to keep."""

from app.api.pace import MIN_BYTES_PER_S, Pace


def wait_until_cut_off(pace: Pace, bytes_per_s: float, gap_s: float) -> float:
    """Return how long a caller is waited for that sends at this pace, with gaps of this length."""
    waited_s = 0.0
    while pace.left_s > 0 and waited_s < 1_000:
        pace.spend(gap_s)
        pace.earn(round(bytes_per_s * gap_s))
        waited_s += gap_s
    return waited_s


def test_who_is_silent_has_its_patience() -> None:
    assert 19 <= wait_until_cut_off(Pace(20), 0, 0.05) <= 21


def test_who_drips_is_cut_off_however_short_its_gaps_are() -> None:
    for gap_s in (0.01, 0.05, 1.0, 5.0):
        assert wait_until_cut_off(Pace(20), 20, gap_s) < 30


def test_who_keeps_the_pace_is_waited_for_without_end_however_long_its_gaps_are() -> None:
    for gap_s in (0.05, 1.0, 15.0):
        assert wait_until_cut_off(Pace(20), MIN_BYTES_PER_S * 1.01, gap_s) >= 1_000


def test_who_was_fast_has_three_patiences_to_be_silent_in_and_no_more() -> None:
    pace = Pace(20)
    pace.earn(1_000_000_000)

    assert 59 <= wait_until_cut_off(pace, 0, 0.05) <= 61
