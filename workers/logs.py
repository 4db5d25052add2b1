"""Celery's own log lines, in the format of wylon's."""

import logging
from typing import Any

from celery import signals

from app.wiring.logs import log_libraries

_REJECTED = "rejected"


@signals.celeryd_init.connect
def _begin(**_: Any) -> None:
    # Celery warns about a worker run by root before Celery sets up its logs.
    log_libraries(logging.WARNING)


@signals.setup_logging.connect
def _set_up(loglevel: int | str = logging.WARNING, **_: Any) -> None:
    # With a receiver for the signal, Celery itself sets up no logs.
    log_libraries(logging.getLevelNamesMapping()[loglevel.upper()] if isinstance(loglevel, str) else loglevel)
    logging.getLogger("celery.app.trace").addFilter(_is_no_giving_back)


def _is_no_giving_back(record: logging.LogRecord) -> bool:
    """Return False for the trace of a task that an ending worker gives back: giving back is no fault."""
    task = record.args
    return not (isinstance(task, dict) and task.get("description") == _REJECTED)
