"""Lines under way, in memory."""

from collections.abc import Mapping

from app.domain.lifecycle import TERMINAL
from app.domain.result import Met
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
            cleared = 0
            for noted in (self.begun, self._db.met):
                for line in [line for line in noted if line[0] in over]:
                    del noted[line]
                    cleared += 1
            return cleared

    def note(self, met: Mapping[tuple[str, int], Met]) -> None:
        with self._db.lock:
            for line, each in met.items():
                before = self._db.met.get(line, each)
                self._db.met[line] = each._replace(tries=max(each.tries, before.tries))

    def met(self, batch_id: str) -> dict[int, Met]:
        with self._db.lock:
            return {position: each for (of_batch, position), each in self._db.met.items() if of_batch == batch_id}
