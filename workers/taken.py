"""The tasks this process has taken from the queues and not ended."""

import threading


class Taken:
    """Counts the copies of a task, and keeps the lease term of the task's receipt; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Copies by task id: a message may be delivered twice.
        self._tasks: dict[str, int] = {}
        # Lease term of the last receipt, by task id.
        self._terms: dict[str, int] = {}
        # Tasks of which a copy has begun.
        self._begun: set[str] = set()

    def add(self, task_id: str, term: int = 0) -> None:
        """Count a task received in lease term `term`."""
        with self._lock:
            self._terms[task_id] = term
            self._tasks[task_id] = self._tasks.get(task_id, 0) + 1

    def begin(self, task_id: str) -> int | None:
        """Return the lease term in which a beginning task was received; None if a copy has begun, or no copy is held.

        While this process holds copies of a task, only the first copy to begin runs.
        """
        with self._lock:
            if task_id in self._begun or task_id not in self._tasks:
                return None
            self._begun.add(task_id)
            return self._terms[task_id]

    def remove(self, task_id: str) -> None:
        """Forget one copy of a task, which has ended."""
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
