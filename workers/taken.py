"""The tasks that this process has taken from the queues and not ended."""

import threading


class Taken:
    """Counts the copies of each, and knows in which term of the lease it came; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Copies of each: a message may be delivered twice.
        self._tasks: dict[str, int] = {}
        # The term of the lease in which each was received last.
        self._terms: dict[str, int] = {}
        # Those of which one copy was begun.
        self._begun: set[str] = set()

    def add(self, task_id: str, term: int = 0) -> None:
        """Count a task that was received in this term of the process's lease."""
        with self._lock:
            self._terms[task_id] = term
            self._tasks[task_id] = self._tasks.get(task_id, 0) + 1

    def begin(self, task_id: str) -> int | None:
        """Return the term in which a task that begins was received; None where a copy of it has begun, or none is held.

        The first copy to begin is the one that runs, as long as this process holds any.
        """
        with self._lock:
            if task_id in self._begun or task_id not in self._tasks:
                return None
            self._begun.add(task_id)
            return self._terms[task_id]

    def remove(self, task_id: str) -> None:
        """Forget a task that ended."""
        with self._lock:
            copies = self._tasks.pop(task_id, 0)
            if copies > 1:
                self._tasks[task_id] = copies - 1
            else:
                self._terms.pop(task_id, None)
                self._begun.discard(task_id)

    def task_ids(self) -> tuple[str, ...]:
        """Return the ids of the tasks held."""
        with self._lock:
            return tuple(self._tasks)
