"""A Celery process waits for its parts before it starts, and says which part is missing."""

from typing import Any

from celery import signals

from app.wiring.start import await_start, ending_plainly
from app.wiring.stores import deployment_of
from workers.celery_app import settings, take_identity

# A SystemExit passes through Celery's signals, and ends the process.


@signals.celeryd_init.connect
def _await_start(**_: Any) -> None:
    _begin()


@signals.beat_init.connect
def _await_start_of_beat(**_: Any) -> None:
    _begin(is_beat=True)


def _begin(*, is_beat: bool = False) -> None:
    await_start(settings, is_beat=is_beat)
    with ending_plainly():
        take_identity(deployment_of(settings))
