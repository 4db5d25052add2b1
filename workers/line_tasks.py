"""The tasks of the line workers: the header of each batch's chord.

They never raise and return None: a header task that failed would keep the chord's callback from running. `Reject` is
no failure: it puts the message back.
"""

from typing import Any

import structlog
from celery.exceptions import Reject

from app.adapters.queue import END_CHORD, RUN_LINES
from app.services.ports import Delivery, LineTask
from workers.celery_app import app
from workers.intake import line_process

log = structlog.get_logger()


@app.task(name=RUN_LINES, bind=True)
def run_lines(self: Any, batch_id: str, number: int, first: int, end: int, delivery: str, decided_at: float) -> None:
    """Run the lines at the positions from `first` up to and without `end`, and record what they came to."""
    process = line_process()
    is_given_back = False
    try:
        how = Delivery(delivery)
        if how is Delivery.FIRST and (self.request.delivery_info or {}).get("redelivered"):
            how = Delivery.AGAIN
        is_given_back = not process.run(batch_id, LineTask(number, first, end), how, decided_at)
    except Exception:
        # Upkeep sees lines without a result that nobody holds, and has them run again.
        log.exception("task.broke", batch_id=batch_id, task=number)
    if is_given_back:
        # The task stays in the list of those held, so that upkeep does not send it beside the message put back.
        raise Reject("This worker is going away.", requeue=True)
    process.taken.remove(self.request.id)


@app.task(name=END_CHORD)
def end_chord(batch_id: str) -> None:
    """Return at once: the last part of the chord of a batch that was cancelled or expired."""
