"""A Celery process waits for its parts before it starts, and says which part is missing."""

from typing import Any

from celery import signals

from app.config import Process, load_settings
from app.wiring.start import await_start
from app.wiring.stores import deployment_of
from workers.celery_app import take_identity

# A SystemExit passes through Celery's signals, and ends the process.


@signals.celeryd_init.connect
def _await_start(**_: Any) -> None:
    _begin()


@signals.beat_init.connect
def _await_start_of_beat(**_: Any) -> None:
    _begin(is_beat=True)


def _begin(*, is_beat: bool = False) -> None:
    settings = load_settings(process=Process.CELERY)
    await_start(settings, is_beat=is_beat)
    take_identity(deployment_of(settings))
