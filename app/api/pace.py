"""The pace that a caller must keep: bytes per time spent waiting for the caller, not gaps between bytes."""

# A phone on a bad line is faster; 200 MiB at the slowest pace take half a day.
MIN_BYTES_PER_S = 4 * 1024
# How long a caller may be silent at first, or fall behind the pace later.
PATIENCE_S = 20.0
# Cap the credit for fast bytes at three times PATIENCE_S: otherwise a burst of megabytes would buy hours of silence.
# A cap of one PATIENCE_S is too low: buffers on the way pass bytes on in lumps, further apart at a slow pace.
_MOST_PATIENCES = 3


class BodyTooSlow(Exception):
    """The body of a request came too slowly. Not an OSError: an OSError means that the caller is gone."""


class Pace:
    """The time left to wait for a caller. Bytes earn time; only waiting spends time."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._most_s = _MOST_PATIENCES * patience_s
        self.left_s = patience_s

    def earn(self, size: int) -> None:
        """Count bytes sent or taken by the caller."""
        self.left_s = min(self.left_s + size / MIN_BYTES_PER_S, self._most_s)

    def spend(self, waited_s: float) -> None:
        """Count time spent waiting for the caller."""
        self.left_s -= waited_s
