"""The rounds of one database: in one house as long as it keeps its promises, then in the next."""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.chaos import leftovers
from tests.chaos.house import House
from tests.chaos.plan import make_plan
from tests.chaos.round import Outcome, Round

# After so many rounds a house is looked over to the last key, and replaced.
_ROUNDS_A_HOUSE = 40
_END = "end of a house"


class Tenancy:
    """Runs rounds one after the other."""

    def __init__(self, seed: int, database: str, pattern: str, tell: Callable[[Outcome], None]) -> None:
        self._seed = seed
        self._database = database
        self._pattern = pattern
        self._tell = tell
        self._house: House | None = None
        self._ended: list[str] = []
        self._rounds = 0

    def run(self, numbers: Iterable[int]) -> None:
        """Run the rounds with these numbers, and leave nothing running."""
        try:
            for number in numbers:
                self._run_one(number)
                if self._rounds >= _ROUNDS_A_HOUSE:
                    self._look_over(number)
            if self._house is not None:
                self._look_over(number)
        finally:
            self._close()

    def _run_one(self, number: int) -> None:
        plan = make_plan(self._seed, self._database, number, self._pattern)
        if self._house is None:
            self._house = House(self._database)
        played = Round(self._house, plan)
        outcome = played.run()
        self._rounds += 1
        self._ended += [batch.id for batch in played.batches if batch.is_over]
        if not outcome.violations:
            outcome.violations += leftovers.check_old_results(self._house)
        if not outcome.violations:
            try:
                self._house.await_up()
            except AssertionError as fault:
                outcome.violations.append(str(fault))
        if outcome.violations:
            outcome.logs = str(self._keep(outcome, played))
            self._close()
        self._tell(outcome)

    def _look_over(self, number: int) -> None:
        """Check what needs time to go, and end the house."""
        assert self._house is not None
        outcome = Outcome(number, self._database, _END, is_pair=False, recovery="")
        outcome.violations = leftovers.check_results(self._house)
        outcome.violations += leftovers.check_broker(self._house, self._ended)
        if outcome.violations:
            outcome.logs = str(self._keep(outcome, None))
        self._tell(outcome)
        self._close()

    def _keep(self, outcome: Outcome, played: Round | None) -> Path:
        assert self._house is not None
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{self._seed}-{self._database}-{outcome.number}-"))
        self._house.keep_logs(folder)
        story = {"outcome": outcome.as_json(), "batches": []}
        if played is not None:
            story["batches"] = [{"name": batch.name, "seen": batch.seen} for batch in played.batches]
        (folder / "story.json").write_text(json.dumps(story, indent=2))
        return folder

    def _close(self) -> None:
        if self._house is not None:
            self._house.end()
        self._house, self._ended, self._rounds = None, [], 0
