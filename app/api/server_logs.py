"""gunicorn's own log lines, in the format of ours."""

import logging
from typing import Any, TextIO

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from app.api.server_start import FailedStart
from app.wiring.logs import formatter_of_libraries


class ServerLogs(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger, by our formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.filters[:] = [FailedStart()]

    def _set_handler(self, log: Any, output: Any, fmt: logging.Formatter, stream: TextIO | None = None) -> None:
        super()._set_handler(log, output, formatter_of_libraries(), stream)
