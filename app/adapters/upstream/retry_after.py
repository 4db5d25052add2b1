"""Reads from the headers of an answer how long an upstream asks to be left alone."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_tz

# No server means more than a day; a longer wait comes from a broken clock or from other units.
MAX_RETRY_AFTER_S = 86_400.0
# The longest wait for a date compared with this host's clock, which may differ from the server's clock.
_MAX_UNMEASURED_S = 60.0
_MAX_CHARS = 64
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_LAST_SECOND = 59


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that the answer asks to wait, or None where the headers say nothing meaningful.

    A date is compared with the answer's own `Date`: the server's clock stamps both, however wrong the clock is.

    Args:
        headers: by their names in lower case.
        now: seconds since 1970, for a date in an answer without a `Date`; the present where left out.
    """
    wait_s = _number(headers.get("retry-after-ms"))
    if wait_s is not None:
        wait_s /= 1000
    elif (text := headers.get("retry-after")) is not None:
        wait_s = _number(text)
        if wait_s is None:
            wait_s = _seconds_until(text, headers.get("date"), now)
    return wait_s if wait_s is not None and 0 < wait_s <= MAX_RETRY_AFTER_S else None


def _number(text: str | None) -> float | None:
    # Python's float also accepts infinity, underscores and digits of other scripts.
    if text is None or len(text) > _MAX_CHARS or not _NUMBER.fullmatch(text.strip()):
        return None
    return float(text)


def _seconds_until(date: str, answered: str | None, now: float | None) -> float | None:
    until = _instant(date)
    if until is None:
        return None
    since = _instant(answered) if answered is not None else None
    if since is not None:
        return until - since
    wait_s = until - (time.time() if now is None else now)
    return min(wait_s, _MAX_UNMEASURED_S) if wait_s <= MAX_RETRY_AFTER_S else None


def _instant(date: str) -> float | None:
    """Return an HTTP date, in any of the three forms, as seconds since 1970; a date without a zone is in UTC."""
    if len(date) > _MAX_CHARS:
        return None
    try:
        parts = parsedate_tz(date)
        if parts is None:
            return None
        year, month, day, hour, minute, second = parts[:6]
        # Python's datetime has no leap second.
        moment = datetime(year, month, day, hour, minute, min(second, _LAST_SECOND), tzinfo=UTC)
    # The date parser raises these exceptions for texts without a date.
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return moment.timestamp() - (parts[9] or 0)
