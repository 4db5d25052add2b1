"""What happens once nothing fails any more: everything ends, in bounded time, and nothing is left behind."""

from collections.abc import Iterator, Sequence

from app.domain.lifecycle import ACTIVE, Status
from tests.model.steps import Fault
from tests.model.workers import Worker
from tests.model.world import FINALIZE_MAX_TRIES, TENANT, World

_ROUND_S = 3.0
# Longer than as many leases as finalizing has tries, a drain, and two looks, one after the other.
_MAX_ROUNDS = 100
_DAY_S = 86_400.0
_MANY = 1_000


def heal(world: World, workers: list[Worker], last_faults: Sequence[Fault | None]) -> None:
    """Let beat tick, deliver everything and have all lines run until nothing is left to do.

    The first finalizers still meet with faults; what has stalled goes on, one a round.
    """
    faults = iter(last_faults)
    # What has stalled may be a cancel: then any of them may be cancelled after all.
    running = set() if world.stalled else {batch.id for batch in world.ledger.of(Status.IN_PROGRESS)}
    for _ in range(_MAX_ROUNDS):
        if world.stalled:
            world.resume(world.stalled[0])
        world.clock.advance(_ROUND_S)
        for worker in workers:
            world.roster.report(worker.state)
        for name in ("expire", "refill", "repair"):
            world.tick(name)
        _deliver_all(world, workers, faults)
        if not world.ledger.of(*ACTIVE) and not world.stalled:
            break
    assert not world.ledger.of(*ACTIVE), f"not ended in {_ROUND_S * _MAX_ROUNDS:.0f} s: {world.ledger.of(*ACTIVE)}"
    for batch in (seen.batch for seen in world.ledger.seen.values()):
        if batch.id in running and batch.expires_at > world.clock.now():
            assert batch.status is Status.COMPLETED or batch.finalize_tries >= FINALIZE_MAX_TRIES
        assert batch.status is not Status.FAILED or batch.errors or batch.finalize_tries >= FINALIZE_MAX_TRIES


def sweep_all(world: World) -> None:
    """Check what files say at the end, and that a day later only they are left."""
    for seen in world.ledger.seen.values():
        if seen.batch.status not in (Status.FAILED,):
            world.ledger.check_files(seen)
    world.clock.advance(_DAY_S + 1)
    for name in ("sweep", "sweep_blobs", "sweep", "sweep_broker"):
        world.tick(name)

    now = world.clock.now()
    files = world.stores.files.page(TENANT, now, purpose=None, after=None, limit=_MANY, newest_first=False)
    written = {file.id for file in files if file.purpose == "batch_output"}
    owned = [seen.batch.output_file_id for seen in world.ledger.seen.values()]
    owned += [seen.batch.error_file_id for seen in world.ledger.seen.values()]
    assert written == set(owned) - {None}, "a file that no batch owns, or none where one is owned"
    assert world.blobs.stored.keys() == {file.blob for file in files}, "a blob that nobody owns, or an owner without"
    assert not world.blobs.unfinished
    assert not world.broker.kept, "the chord of a batch that ended"
    for seen in world.ledger.seen.values():
        rows = list(world.stores.results.read(seen.batch.id))
        # Those of a batch whose files could not be written are kept for its operator.
        assert len(rows) == (len(seen.lines) if seen.batch.status is Status.FAILED else 0)


def _deliver_all(world: World, workers: list[Worker], faults: Iterator[Fault | None]) -> None:
    while world.broker.control or world.broker.lines or any(worker.runs for worker in workers):
        while world.broker.control:
            message = world.broker.control.pop(0)
            world.handle(message, next(faults, None) if message.kind == "finalize" else None)
        for worker in workers:
            worker.notice(world.stores.batches)
            worker.settle(world.broker)
            for run in list(worker.runs):
                while run.todo:
                    world.call(worker, run, is_good=True)
                if run.answers:
                    world.record(worker, run)
        if world.broker.lines:
            world.take(workers[0], world.broker.lines.pop(0))
