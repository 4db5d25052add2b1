"""Whether beat and control tick, for those who say what is wrong: each counts by its own monotonic clock."""

import threading
import time
from collections.abc import Callable

import redis

from app.adapters.ticks import RedisTicks
from app.config import Settings
from app.domain.errors import Unavailable
from app.domain.watch import Watch
from app.wiring.stores import deployment_of, open_redis

# A tick is due each second: after this it is no busy machine any more.
_LATE_S = 30.0
_LOOK_EVERY_S = 2.0
# The most that counts between two looks: a process that stood still has seen nothing meanwhile.
_LONGEST_GAP_S = 5.0
# For whoever looks once, such as a command.
_ONE_TICK_WITHIN_S = 10.0
_POLL_S = 0.2
_LATE = f"no tick for {_LATE_S:g} s, so nothing expires and nothing lost is sent again: see that beat and control run"


class TickWatch:
    """Looks every two seconds, from a thread of its own.

    Args:
        read: returns what changes with each tick; an error of the broker is told by the broker's own check.
        tell: told once when ticks stay away, and once when they are back.
        monotonic: seconds that only go on.
    """

    def __init__(
        self,
        read: Callable[[], bytes | None],
        tell: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._tell = tell
        self._monotonic = monotonic
        self._watch: Watch[str, bytes | None] = Watch(_LONGEST_GAP_S)
        self._is_late = False

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._main, name="tick-watch", daemon=True).start()

    def check(self) -> None:
        """Raise Unavailable where no tick was seen for 30 s."""
        if self._is_late:
            raise Unavailable(_LATE)

    def look(self) -> None:
        """Look once."""
        try:
            last = self._read()
        except (redis.RedisError, OSError):
            return
        is_late = self._watch.unchanged_s("ticks", last, self._monotonic()) >= _LATE_S
        if is_late != self._is_late:
            self._is_late = is_late
            self._tell(_LATE if is_late else "beat and control tick again")

    def _main(self) -> None:
        while True:
            self.look()
            time.sleep(_LOOK_EVERY_S)


def watch_ticks(settings: Settings, tell: Callable[[str], None]) -> TickWatch:
    """Return a watch of this deployment's ticks, which has begun."""
    watch = TickWatch(RedisTicks(open_redis(settings, deployment_of(settings))).last, tell)
    watch.start()
    return watch


def see_tick(read: Callable[[], bytes | None], within_s: float = _ONE_TICK_WITHIN_S) -> None:
    """Wait until a tick is seen; Unavailable where none is in time."""
    gives_up_at = time.monotonic() + within_s
    try:
        first = read()
        while read() == first:
            if time.monotonic() > gives_up_at:
                raise Unavailable(f"no tick within {within_s:g} s: see that beat and control run")
            time.sleep(_POLL_S)
    except (redis.RedisError, OSError):
        raise Unavailable("can't be seen: the broker does not answer") from None
