"""The tasks of the line workers: the header of each batch's chord.

The tasks never raise, and return None: a failed header task would keep the chord's callback from running. `Reject` is
no failure, but puts the message back.
"""

from typing import Any

from celery.exceptions import Reject

from app.adapters.queue import END_CHORD, RUN_LINES
from workers.celery_app import app
from workers.intake import line_process
from workers.line_process import GIVEN_BACK


@app.task(name=RUN_LINES, bind=True)
def run_lines(self: Any, batch_id: str, number: int, first: int, end: int, delivery: str, *_: Any) -> None:
    """End the task of the lines from position `first` up to, but not including, `end`."""
    # The pool began the task earlier: by now the lines are done, or the task was given back.
    process = line_process()
    is_given_back = getattr(self.request, GIVEN_BACK, False)
    if not is_given_back or not process.is_draining:
        process.end(self.request.id, self.request.delivery_info["routing_key"])
    if is_given_back:
        # If the worker is ending, the task stays in the list of held tasks, so that upkeep does not send the task
        # beside the message put back. A worker that goes on would hold the task for good.
        raise Reject("Another worker is to run these lines.", requeue=True)


@app.task(name=END_CHORD)
def end_chord(batch_id: str) -> None:
    """Return at once: the last part of the chord of a cancelled or expired batch."""
