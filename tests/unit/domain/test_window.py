import pytest

from app.domain.window import window_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("1s", 1), ("90m", 5_400), ("7d", 604_800), ("14d", 1_209_600)]
)
def test_a_window_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert window_s(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "24 h", "0h", "-1h", "1.5h", "24H", "1w", "24h\n", "٢٤h", "99999999s"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no window"):
        window_s(text)


def test_a_window_past_two_weeks_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 14 days"):
        window_s("15d")
