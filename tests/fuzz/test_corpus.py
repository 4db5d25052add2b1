"""The committed corpus and its first mutations, on every run of the tests; `python -m tests.fuzz` has a million."""

import signal
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import MAX_MEMORY_RATIO, Tally, attempt, measure, raise_hangs, run
from tests.fuzz.mutation import CORPUS, load
from tests.fuzz.targets import TARGETS, check_one_line

# Those that cost more get fewer; 20,000 in all.
MUTATIONS = {"line": 9_000, "answer": 8_000, "form": 1_500, "file": 1_500}
MAX_CORPUS_BYTES = 300_000


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    raise_hangs()
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_in_the_corpus_shows_a_defect(target: str) -> None:
    tally = Tally(target)

    for data in load(target):
        attempt(tally, data)

    assert tally.inputs > 5
    assert tally.defects == {}


@pytest.mark.parametrize("target", TARGETS)
def test_no_mutation_of_the_corpus_shows_a_defect(target: str) -> None:
    tally = run(target, load(target), MUTATIONS[target], seed=0)

    assert tally.inputs == MUTATIONS[target]
    assert tally.defects == {}


@pytest.mark.parametrize("target", TARGETS)
def test_memory_stays_in_proportion_to_the_input(target: str) -> None:
    tally = Tally(target)

    for data in load(target)[:2]:
        measure(tally, data)

    assert tally.memory_ratio < MAX_MEMORY_RATIO
    assert tally.defects == {}


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS_BYTES


def test_a_campaign_repeats_by_its_seed() -> None:
    seeds = load("line")

    first, again = (run("line", seeds, 300, seed=5) for _ in range(2))

    assert first.inputs == again.inputs
    assert first.defects == again.defects == {}


def test_bad_lines_leave_nothing_in_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(500):
            check_one_line(b"\0{%d" % number + b" " * 10_000)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert held < 1_000_000
