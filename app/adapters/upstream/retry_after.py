"""How long an upstream asks to be left alone, from the headers of its answer."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

# No server means more than a day; what says more has a broken clock or counts in other units.
MAX_RETRY_AFTER_S = 86_400.0


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that the answer asks to wait; None where it says nothing that makes sense.

    Args:
        headers: case-insensitive.
        now: seconds since 1970, for a date; the present where left out.
    """
    wait_s = _number(headers.get("retry-after-ms"))
    if wait_s is not None:
        wait_s /= 1000
    elif (text := headers.get("retry-after")) is not None:
        wait_s = _number(text)
        if wait_s is None:
            wait_s = _seconds_until(text, time.time() if now is None else now)
    # Written so that nan fails it too.
    return wait_s if wait_s is not None and 0 < wait_s <= MAX_RETRY_AFTER_S else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    # A year that no datetime holds overflows instead.
    except (ValueError, OverflowError):
        return None
