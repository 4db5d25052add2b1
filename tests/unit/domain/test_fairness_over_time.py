"""The window refilled again and again before a model server that does one line after the other."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fairness import Turn, Weights
from app.domain.standings import RunningBatch
from tests.unit.domain.shares import batch, share


class Upstream:
    """Workers and model server as one line, first in, first out; what is done of each batch."""

    def __init__(self, *running: RunningBatch, window: int, weights: Weights | None = None) -> None:
        self.running = {each.id: each for each in running}
        self.done: Counter[str] = Counter()
        self._window = window
        self._weights = weights
        self._line: list[Turn] = []

    def serve(self, lines: int) -> None:
        """Refill the window and do so many lines."""
        for turn in share(*self.running.values(), window=self._window, weights=self._weights)[1]:
            self._line.append(turn)
            self._change(turn.batch_id, turn.lines, turn.lines)
        while lines > 0 and self._line:
            turn = self._line.pop(0)
            done = min(lines, turn.lines)
            if done < turn.lines:
                self._line.insert(0, turn._replace(lines=turn.lines - done))
            lines -= done
            self.done[turn.batch_id] += done
            self._change(turn.batch_id, 0, -done)

    def _change(self, batch_id: str, given: int, outstanding: int) -> None:
        before = self.running[batch_id]
        self.running[batch_id] = before._replace(
            lines_waiting=before.lines_waiting - given,
            lines_outstanding=before.lines_outstanding + outstanding,
            is_new=before.is_new and not given,
        )


@given(st.integers(1, 12), st.integers(1, 10), st.integers(1, 30), st.sampled_from([40, 341]))
@settings(deadline=None, max_examples=40)
def test_every_batch_comes_to_its_end(batches: int, tenants: int, lines_per_task: int, window: int) -> None:
    upstream = Upstream(
        *(
            batch(f"batch_{n}", f"tenant_{n % tenants}", lines_waiting=200 + n, lines_per_task=lines_per_task)
            for n in range(batches)
        ),
        window=window,
    )
    total = sum(each.lines_waiting for each in upstream.running.values())

    for _ in range(total // (window // 4) + 12):
        upstream.serve(window // 4)

    assert sum(upstream.done.values()) == total


@pytest.mark.parametrize("lines_per_task", [(30, 30), (30, 1), (1, 30), (7, 50)])
def test_three_to_one_comes_out_whatever_the_size_of_tasks(lines_per_task: tuple[int, int]) -> None:
    heavy, light = lines_per_task
    pace = Random(1)
    upstream = Upstream(
        batch("a", "heavy", lines_per_task=heavy, lines_waiting=10**6),
        batch("b", "light", lines_per_task=light, lines_waiting=10**6),
        window=341,
        weights=Weights({"heavy": 3.0}),
    )

    # Never the same number at each refill, which no upstream does: tasks and refills would fall into step.
    for _ in range(400):
        upstream.serve(pace.randint(20, 108))

    assert upstream.done["a"] / upstream.done["b"] == pytest.approx(3.0, rel=0.1)


def test_three_to_one_comes_out_against_many_batches() -> None:
    many = [batch(f"b_{number}", "light", lines_per_task=10, lines_waiting=10**5) for number in range(100)]
    upstream = Upstream(
        batch("a", "heavy", lines_per_task=30, lines_waiting=10**6),
        *many,
        window=341,
        weights=Weights({"heavy": 3.0}),
    )

    for _ in range(200):
        upstream.serve(64)

    light = sum(done for name, done in upstream.done.items() if name != "a")
    assert upstream.done["a"] / light == pytest.approx(3.0, rel=0.1)
