"""How long a round took to go on after its fault."""

from tests.chaos.faults import Recovery
from tests.chaos.scene import Scene


def measure(
    kind: Recovery, scene: Scene, spans: list[tuple[float, float]], progress: list[tuple[float, int]]
) -> list[float]:
    """Return seconds; several where each line has its own, none where there was nothing left to go on with.

    Args:
        kind: from when to when.
        scene: the round that is over.
        spans: begin and end of its faults.
        progress: what all batches had recorded, at instants in order.
    """
    if not spans:
        return []
    began_at, ended_at = min(span[0] for span in spans), max(span[1] for span in spans)
    if kind is Recovery.LINES:
        return _lines_again(scene)
    if kind is Recovery.PROGRESS:
        answered = [
            call.ended_at
            for call in scene.house.model.ledger.all()
            if call.ended_at is not None and not call.is_broken and call.ended_at > ended_at
        ]
        return [min(answered) - ended_at] if answered else []
    before = max((recorded for at, recorded in progress if at <= began_at), default=0)
    later = [at for at, recorded in progress if at > began_at and recorded > before]
    return [min(later) - began_at] if later else []


def _lines_again(scene: Scene) -> list[float]:
    found = []
    for calls in scene.house.model.ledger.by_marker().values():
        for pid, at in scene.kills:
            if any(call.pid == pid and call.was_open(at) for call in calls):
                again = [call.opened_at for call in calls if call.opened_at > at]
                found += [min(again) - at] if again else []
    return found
