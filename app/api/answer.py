"""An answer, sent piece by piece."""

from collections.abc import Callable, Iterable
from typing import Any


class Answer:
    """An application's answer; a step writes a piece into the connection's outlet."""

    def __init__(
        self,
        response: Any,
        pieces: Iterable[bytes],
        rest: bytes,
        may_keep: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """Take the application's answer.

        Args:
            response: gunicorn's response, which frames the pieces.
            pieces: the body.
            rest: the bytes behind the request: the start of the next request.
            may_keep: called right before the answer begins; returns whether the connection stays open afterwards.
            ended: called once, however the answer ends.
        """
        self.rest = rest
        self.is_over = False
        self._response = response
        self._pieces = pieces
        self._iterator = iter(pieces)
        self._may_keep: Callable[[], bool] | None = may_keep
        self._ended = ended
        self._is_closed = False

    @property
    def has_begun(self) -> bool:
        """Whether a part of the answer is in the outlet."""
        return bool(self._response.headers_sent)

    @property
    def is_last(self) -> bool:
        """Whether the connection closes after the answer."""
        return bool(self._response.should_close())

    def step(self) -> None:
        """Write the next piece, or the end."""
        piece = next(self._iterator, None)
        if self._may_keep is not None:
            if not self._may_keep():
                self._response.force_close()
            self._may_keep = None
        if piece is not None:
            self._response.write(piece)
            return
        self._response.close()
        self.is_over = True
        self.close()

    def close(self) -> None:
        """Let the application clean up; a second call has no effect."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._ended()
