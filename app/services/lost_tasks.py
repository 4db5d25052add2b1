"""Lost (orphaned) tasks: missing at every look for several seconds, and past the moment when a first send is possible.

For each missing task the roster keeps the first look of the absence, for every observer. An observer counts the time
since the first look by the observer's own clock.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping

from app.domain.watch import Watch
from app.services.ports import Clock, Roster

# A worker reports its tasks once a second, later on a busy machine: only after this long is a missing task lost.
LOST_AFTER_S = 4.5
# After an absence of this long, the dispatcher may have stalled just before sending the task. From now on the fence
# refuses the dispatcher's messages, and the next look sees the messages sent by now.
_FENCE_AFTER_S = 1.5
# The least time between the fence and the look that finds a task lost: within this time a worker reports its tasks.
_FENCED_FOR_S = 1.5
# The most that counts between two looks: two looks around a standstill make no task lost.
_LONGEST_GAP_S = 4.0
# The most batches with missing tasks to watch.
_MOST_BATCHES = 20_000


class _Batch:
    """The missing tasks of a batch."""

    def __init__(self) -> None:
        self._watch: Watch[int, str] = Watch(_LONGEST_GAP_S)
        # By task: the first look of the absence, and its length in seconds when the batch was fenced.
        self._fenced: dict[int, tuple[str, float]] = {}

    def look(self, since: Mapping[int, str], now: float) -> tuple[list[int], bool]:
        """Take in the first look of each task's absence; return the lost tasks, and whether a fence is due."""
        missing_s = {number: self._watch.unchanged_s(number, look, now) for number, look in since.items()}
        self._watch.keep(since)
        fenced = {number: fence for number, fence in self._fenced.items() if fence[0] == since.get(number)}
        lost = sorted(
            number
            for number, (_, fenced_at_s) in fenced.items()
            if missing_s[number] >= max(LOST_AFTER_S, fenced_at_s + _FENCED_FOR_S)
        )
        for number in lost:
            del fenced[number]
            self._watch.restart(number)
        suspects = {
            number: (since[number], for_s)
            for number, for_s in missing_s.items()
            if for_s >= _FENCE_AFTER_S and number not in fenced and number not in lost
        }
        self._fenced = fenced | suspects
        return lost, bool(suspects)


class LostTasks:
    """Finds lost tasks; each process that repairs has its own instance."""

    def __init__(self, roster: Roster, clock: Clock) -> None:
        self._roster = roster
        self._clock = clock
        self._batches: OrderedDict[str, _Batch] = OrderedDict()

    def find(self, missing: Mapping[str, Collection[int]]) -> dict[str, list[int]]:
        """Take in the missing tasks of the batches; return the lost tasks, and start their time anew."""
        since = self._roster.missing_since(missing)
        for batch_id in missing.keys() - since.keys():
            self._batches.pop(batch_id, None)
        now, lost, suspect = self._clock.monotonic(), dict[str, list[int]](), list[str]()
        for batch_id, looks in since.items():
            batch = self._batches.setdefault(batch_id, _Batch())
            self._batches.move_to_end(batch_id)
            numbers, is_suspect = batch.look(looks, now)
            if numbers:
                lost[batch_id] = numbers
            if is_suspect:
                suspect.append(batch_id)
        while len(self._batches) > _MOST_BATCHES:
            self._batches.popitem(last=False)
        if suspect:
            self._roster.fence(suspect)
        if lost:
            self._roster.not_missing(lost)
        return lost
