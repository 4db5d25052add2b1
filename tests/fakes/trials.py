"""Lines under way, in memory."""

from app.domain.lifecycle import TERMINAL
from tests.fakes.database import MemoryDatabase


class MemoryTrialStore:
    """Trials in a dictionary."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._db = database or MemoryDatabase()
        self.begun = self._db.trials

    def begin(self, batch_id: str, position: int) -> int:
        with self._db.lock:
            before = self.begun.get((batch_id, position), 0)
            self.begun[batch_id, position] = before + 1
            return before

    def end(self, batch_id: str, position: int) -> None:
        with self._db.lock:
            self.begun.pop((batch_id, position), None)

    def clear(self) -> int:
        with self._db.lock:
            over = {batch_id for batch_id, row in self._db.batches.items() if row.batch.status in TERMINAL}
            doomed = [line for line in self.begun if line[0] in over]
            for line in doomed:
                del self.begun[line]
            return len(doomed)
