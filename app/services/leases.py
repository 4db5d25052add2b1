"""Leases on batches: the process that validates a batch or writes its files renews a lease, so its death shows soon.

Two sides renew a lease every second: the work, to notice the loss of the lease, and a thread of the process, to cover
slow steps of the work. The slow sync of a disk, for example, is not taken for a death.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import structlog

from app.domain import ids
from app.domain.errors import StateConflict, StorageFull, Unavailable
from app.domain.watch import Watch
from app.services import ports
from app.services.ports import PAUSED, BatchStore, Clock

log = structlog.get_logger()

T = TypeVar("T")

# A holder without a renewal for this long counts as dead. A holder that renews later keeps the lease, unless upkeep has
# freed the batch meanwhile.
LEASE_S = 5.0
RENEW_S = 1.0
# A lease renewed less long ago counts as fresh.
_FRESH_S = 0.25
# After a fault of the storage, the database or the batch itself, the work is tried again after this long.
PAUSE_S = 30.0


class Lease:
    """The lease of one batch, held by this process."""

    def __init__(self, batches: BatchStore, clock: Clock, batch_id: str, token: str | None = None) -> None:
        self.token = token or ids.new_token()
        self._batches = batches
        self._clock = clock
        self._batch_id = batch_id
        self._renewed_at = float("-inf")
        # Held while the row is written: a lease that was given up meanwhile must not be renewed.
        self._lock = threading.Lock()
        self._is_over = False

    def take(self, write: Callable[[str], bool] | None = None) -> bool:
        """Take or extend the lease; return False if another process has the lease.

        Args:
            write: writes the lease with the given name, together with other changes of the batch.
        """
        with self._lock:
            if self._is_over:
                return True
            renewed_at = self._clock.monotonic()
            is_held = self._batches.lease(self._batch_id, self.token) if write is None else write(self.token)
            self._renewed_at = renewed_at
            return is_held

    def check(self) -> None:
        """Renew the lease if a renewal is due; raise StateConflict if another process has the lease by now."""
        if self._clock.monotonic() - self._renewed_at >= RENEW_S:
            self.renew()

    def freshen(self) -> None:
        """Have nearly the whole lease ahead; raise StateConflict if another process has the lease by now."""
        if self._clock.monotonic() - self._renewed_at >= _FRESH_S:
            self.renew()

    def renew(self) -> None:
        """Renew the lease; raise StateConflict if another process has the lease by now."""
        if not self.take():
            raise StateConflict(f"Another process took over {self._batch_id}.")

    def end(self, write: Callable[[], T]) -> T:
        """Write a move of the batch that gives the lease up, with no renewal in between; return the written value."""
        with self._lock:
            written = write()
            self._is_over = True
            return written

    def release(self) -> None:
        """Let any process take the batch at once."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                self._batches.release(self._batch_id, self.token)

    def pause(self) -> None:
        """Keep every process off the batch for a while, if the row can be written."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                with suppress(StorageFull, Unavailable):
                    self._batches.pause_lease(self._batch_id, self.token)


class Leases:
    """The leases of this process.

    Args:
        batches: the rows of batches.
        clock: tells how long ago a lease was renewed.
        new_owner: returns a name for a hold on a batch; the name may tell the process.
    """

    def __init__(self, batches: BatchStore, clock: Clock, new_owner: Callable[[], str] = ids.new_token) -> None:
        self._new_owner = new_owner
        self._batches = batches
        self._clock = clock
        self._lock = threading.Lock()
        self._held: set[Lease] = set()

    @contextmanager
    def hold(self, batch_id: str, take: Callable[[str], bool] | None = None) -> Iterator[Lease | None]:
        """Hold a batch during work on the batch; yield None if another process has the lease.

        After work that raises, the lease is kept for a pause, and the batch is not tried again at once.

        Args:
            batch_id: the batch.
            take: takes the lease with the given name, together with other changes of the batch; returns False if
                another process has the lease.
        """
        lease = Lease(self._batches, self._clock, batch_id, self._new_owner())
        if not lease.take(take):
            yield None
            return
        with self._lock:
            self._held.add(lease)
        try:
            yield lease
        except BaseException:
            self._drop(lease)
            lease.pause()
            raise
        self._drop(lease)
        lease.release()

    def renew(self) -> None:
        """Renew every lease, whatever the work under the lease does at the moment."""
        with self._lock:
            held = list(self._held)
        for lease in held:
            try:
                # The work finds out by itself that another process has the lease.
                lease.take()
            except (StorageFull, Unavailable) as fault:
                log.warning("lease.not_renewed", error=str(fault))
                return

    def _drop(self, lease: Lease) -> None:
        with self._lock:
            self._held.discard(lease)


class LeaseWatch:
    """Frees batches of dead or stalled holders; every watching process has a LeaseWatch.

    A holder that resumes later can do no harm: every write is guarded by the lease.

    Args:
        batches: the rows of batches.
        clock: the clock of this process, which counts the time without a renewal.
        is_abandoned: whether the owner of a lease is a process of this host and has surely ended.
    """

    def __init__(
        self, batches: BatchStore, clock: Clock, is_abandoned: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._batches = batches
        self._clock = clock
        self._is_abandoned = is_abandoned
        self._watch: Watch[str, ports.Lease] = Watch(LEASE_S - RENEW_S)

    def free(self) -> set[str]:
        """Look at every lease once; return the ids of the freed batches."""
        now, freed = self._clock.monotonic(), set()
        leases = self._batches.leases()
        for lease in leases:
            is_paused = lease.owner.startswith(PAUSED)
            is_over = self._watch.unchanged_s(lease.batch_id, lease, now) >= (PAUSE_S if is_paused else LEASE_S)
            is_over = is_over or (not is_paused and self._is_abandoned(lease.owner))
            if is_over and self._batches.break_lease(lease):
                freed.add(lease.batch_id)
        self._watch.keep({lease.batch_id for lease in leases})
        return freed
