"""Two deployments on one database of one broker."""

from collections.abc import Iterator

import pytest

from app.domain.lifecycle import Status
from tests.integration.brokers import open_server
from tests.integration.pipeline import Pipeline, request_lines
from tests.integration.processes import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Pipeline, Pipeline]]:
    opened: list[Pipeline] = []
    with open_server() as port:
        try:
            for _ in range(2):
                opened.append(Pipeline(None, broker_url=f"redis://127.0.0.1:{port}/0"))
                opened[-1].start("control", "files", "worker-1", "beat")
            yield opened[0], opened[1]
        finally:
            for each in opened:
                each.end()


def test_batches_of_both_end_with_their_own_lines(pair: tuple[Pipeline, Pipeline]) -> None:
    ids = [each.submit(request_lines(120, f"[[sleep:20]] of {number}")) for number, each in enumerate(pair)]

    batches = [each.await_end(batch_id) for each, batch_id in zip(pair, ids, strict=True)]

    for number, (each, batch) in enumerate(zip(pair, batches, strict=True)):
        output = each.lines_of(batch.output_file_id)
        assert (batch.status, batch.completed) == (Status.COMPLETED, 120)
        assert all(f"of {number}" in str(line["response"]) for line in output)
        assert each.upstream_stats()["requests"] >= 120


def test_neither_deletes_what_the_other_keeps_in_the_broker(pair: tuple[Pipeline, Pipeline]) -> None:
    one, other = pair
    batch_id = one.submit(request_lines(200, "[[sleep:200]]"))
    one.await_recorded(batch_id, 1)
    before = one.queue.chords()

    other.queue.drop_unknown_queues()
    other.queue.drop_chords(other.queue.chords())
    other.queue.drop_unacked([message.tag for message in other.queue.unacked(10_000)])

    assert before
    assert before <= one.queue.chords()
    assert before.isdisjoint(other.queue.chords())
    assert one.await_end(batch_id).completed == 200


def test_each_sees_its_own_workers_alone(pair: tuple[Pipeline, Pipeline]) -> None:
    one, other = pair
    one.start("worker-2")

    until(lambda: len(one.workers()) == 2, 60, "two workers report to the one")

    assert len(other.workers()) == 1


def test_every_key_begins_with_the_id_of_a_deployment(pair: tuple[Pipeline, Pipeline]) -> None:
    prefixes = tuple(f"wylon:{each.stores.deployment.id}:".encode() for each in pair)

    keys = list(pair[0].bare_redis().scan_iter())

    assert keys
    assert [key for key in keys if not key.startswith(prefixes)] == []
