"""The tasks of the line workers: the header of each batch's chord.

They never raise and return None: a header task that failed would keep the chord's callback from running. `Reject` is
no failure: it puts the message back.
"""

from typing import Any

from celery.exceptions import Reject

from app.adapters.queue import END_CHORD, RUN_LINES
from workers.celery_app import app
from workers.intake import line_process
from workers.line_process import GIVEN_BACK


@app.task(name=RUN_LINES, bind=True)
def run_lines(self: Any, batch_id: str, number: int, first: int, end: int, delivery: str, *_: Any) -> None:
    """Return what became of the lines at the positions from `first` up to and without `end`."""
    # The pool has begun it before: all of it is done by now, or it was given back.
    process = line_process()
    is_given_back = getattr(self.request, GIVEN_BACK, False)
    if not is_given_back or not process.is_draining:
        process.end(self.request.id, self.request.delivery_info["routing_key"])
    if is_given_back:
        # Of a worker that ends the task stays in the list of those held, so that upkeep does not send it beside the
        # message put back. One that lives would hold it for good.
        raise Reject("Another worker is to run these lines.", requeue=True)


@app.task(name=END_CHORD)
def end_chord(batch_id: str) -> None:
    """Return at once: the last part of the chord of a batch that was cancelled or expired."""
