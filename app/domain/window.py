"""Completion windows: `24h`, or other windows that an operator allows."""

import re

from app.domain.limits import MAX_WINDOW_S

_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")


def window_s(text: str) -> int:
    """Return the seconds in a window such as `24h`, `90m` or `7d`; raise ValueError if the text is no window."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no window: write a number and one of s, m, h, d, such as 24h")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if seconds > MAX_WINDOW_S:
        raise ValueError(f"{text!r} is longer than {MAX_WINDOW_S // 86_400} days")
    return seconds
