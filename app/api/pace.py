"""The pace that a caller has to keep: bytes over the time in which it was waited for, not gaps between bytes."""

# A phone on a bad line does better; 200 MiB at this pace take half a day.
MIN_BYTES_PER_S = 4 * 1024
# How long a caller may be silent at first, or fall behind the pace later.
PATIENCE_S = 20.0
# Who was fast has no more than this many patiences to be slow in: megabytes in a second would buy hours. One would be
# too few: buffers on the way hand bytes on in lumps, which at a slow pace are further apart than that.
_MOST_PATIENCES = 3


class BodyTooSlow(Exception):
    """The body of a request came too slowly. No OSError: those stand for a caller who is gone."""


class Pace:
    """How much longer one caller is waited for. Each byte earns time; only the time of waiting is spent."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._most_s = _MOST_PATIENCES * patience_s
        self.left_s = patience_s

    def earn(self, size: int) -> None:
        """Count bytes that the caller sent or took."""
        self.left_s = min(self.left_s + size / MIN_BYTES_PER_S, self._most_s)

    def spend(self, waited_s: float) -> None:
        """Count time in which the caller was waited for."""
        self.left_s -= waited_s
