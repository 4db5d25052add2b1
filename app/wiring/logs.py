"""Structured logs."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict

from app.config import Settings


class _Lossy:
    """A stream that drops unwritable text: a full disk must not fail the logged work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def formatter_of_libraries() -> logging.Formatter:
    """Return the formatter that makes library records look like wylon's events, with the logger's name."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_RENDERING],
    )


def log_libraries(level: int) -> None:
    """Send library records and Python's warnings, from `level` on, to the stream of wylon's events."""
    handler = logging.StreamHandler(cast(TextIO, _Lossy(sys.stderr)))
    handler.setFormatter(formatter_of_libraries())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    logging.captureWarnings(capture=True)


class _VisibleRecord(logging.LogRecord):
    """A library's record, with control characters in the message and the traceback shown as escapes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0] is not None:
            # A formatter uses `exc_text` if present, and otherwise formats the exception.
            self.exc_text = _visible_lines(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:  # noqa: N802 - the name that `logging` calls
        return _visible_lines(super().getMessage())


def visible(text: str) -> str:
    r"""Return the text with every unprintable character as an escape, like `\x1b`.

    A caller's path, header or filename may hold escapes that move the cursor of the terminal showing the log, line
    breaks that imitate a line of the log, and marks that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def make_visible(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Show control characters in the keys and values of an event as escapes."""
    return {visible(key): _visible_value(value) for key, value in event.items()}


# The last steps of every log line, from wylon or from a library.
_RENDERING: list[Any] = [
    structlog.processors.format_exc_info,
    make_visible,
    structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
]


def set_up_logs(settings: Settings | None) -> None:
    """Send structured logs, from wylon and from libraries, to standard error as lines of `event key=value`.

    Args:
        settings: give the level; None where the settings can't be read.
    """
    level = logging.INFO if settings is None else logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Celery and gunicorn log through `logging` with their own handlers: the record factory reaches every handler.
    logging.setLogRecordFactory(_VisibleRecord)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_RENDERING,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lossy(sys.stderr))),
    )


def _visible_value(value: object) -> object:
    # Numbers and None stay as they are; other values are written as text.
    return value if value is None or isinstance(value, int | float) else visible(str(value))


def _visible_lines(text: str) -> str:
    """Keep line breaks, and indent the text after a break: a caller's line break must not begin a line of the log."""
    return "\n  ".join(visible(line) for line in text.split("\n"))


def warn_of_foreign(names: Sequence[str]) -> None:
    """Log the foreign variables left out, which would have taken the place of settings."""
    if names:
        structlog.get_logger().warning(
            "environment.left_out",
            variables=list(names),
            advice="Only WYLON_… counts, such as WYLON_BROKER_URL and WYLON_DATABASE_URL.",
        )
