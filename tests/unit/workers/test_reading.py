"""The bytes of a task's lines, whatever their order in the input."""

import random

import pytest

from tests.fakes.outside import MemoryBlobs
from tests.unit.workers.lane_house import House
from tests.unit.workers.waiting import run_of
from workers.line_process import read_together
from workers.line_run import Line

INPUT = "files/in"
LINES = [b"%d:%s" % (number, b"x" * (number % 7)) for number in range(40)]


class CountedBlobs(MemoryBlobs):
    reads = 0

    def read(self, key: str, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(key, offset, length)


@pytest.mark.parametrize("seed", range(20))
def test_lines_that_follow_the_order_of_the_plan_are_read_whole(seed: int) -> None:
    blobs, chosen = CountedBlobs(), random.Random(seed).sample(range(len(LINES)), 12)
    writer = blobs.create(INPUT)
    writer.write(b"\n".join(LINES))
    writer.commit()
    run, lane = run_of(len(chosen)), House().lane
    lines = [
        Line(run, lane, place, sum(len(line) + 1 for line in LINES[:number]), len(LINES[number]))
        for place, number in enumerate(chosen)
    ]

    read_together(blobs, INPUT, lines)

    assert [line.data for line in lines] == [LINES[number] for number in chosen]
    assert blobs.reads == 1
