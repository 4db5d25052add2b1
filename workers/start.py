"""A Celery process waits for the parts that it needs before it starts, and says which part is missing."""

from typing import Any

from celery import signals

from app.config import Process, load_settings
from app.wiring.start import await_start

# A SystemExit passes through Celery's signals, and ends the process.


@signals.celeryd_init.connect
def _await_start(**_: Any) -> None:
    await_start(load_settings(process=Process.CELERY))


@signals.beat_init.connect
def _await_start_of_beat(**_: Any) -> None:
    await_start(load_settings(process=Process.CELERY), is_beat=True)
