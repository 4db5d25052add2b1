"""An answer on its way out, a piece at a time."""

from collections.abc import Callable, Iterable
from typing import Any


class Answer:
    """What an application answers; each step writes a piece of it into the connection's outlet."""

    def __init__(
        self,
        response: Any,
        pieces: Iterable[bytes],
        rest: bytes,
        may_keep: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """Take what the application returned.

        Args:
            response: gunicorn's, which frames the pieces.
            pieces: the body.
            rest: what came behind the request: the start of the next one.
            may_keep: returns whether the connection may have another request, right before the answer begins.
            ended: is called once, however the answer ends.
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
        """Whether something of it is in the outlet."""
        return bool(self._response.headers_sent)

    @property
    def is_last(self) -> bool:
        """Whether the connection closes behind it."""
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
        """Let the application clean up; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._ended()
