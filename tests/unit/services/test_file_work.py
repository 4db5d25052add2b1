"""How much there is to be done for a batch, which its turn goes by, and where the work lets others go on."""

from app.domain.file_work import SMALL_BYTES, Work
from app.domain.lifecycle import Event, Status
from app.domain.limits import MIB
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch, result_of
from tests.unit.services.validation_house import House, request


def test_the_work_of_a_validation_is_the_size_of_its_file() -> None:
    house = House()
    house.arrange(b"x" * 1_000)

    assert house.service.work("batch_1") == Work("tenant", 1_000, "files/in")


def test_a_batch_whose_bytes_are_gone_is_small_work() -> None:
    house = House()
    house.arrange(b"x")
    house.blobs.delete("files/in")

    assert house.service.work("batch_1") == Work("tenant", 0, "files/in")


def test_there_is_nothing_to_validate_of_a_batch_that_has_ended() -> None:
    house = House()
    house.arrange(b"hello")
    house.service.validate("batch_1")

    assert house.batch.status is Status.FAILED
    assert house.service.work("batch_1") is None
    assert house.service.work("batch_unknown") is None


def test_the_work_of_a_finalization_grows_with_its_lines() -> None:
    house = PipelineHouse()
    house.add_running("batch_small", 500)
    house.add_running("batch_large", 20_000)

    small, large = house.finalization.work("batch_small"), house.finalization.work("batch_large")

    assert small is not None
    assert large is not None
    assert small.is_small
    assert not large.is_small
    assert small.tenant_id == "tenant"


def test_the_work_of_ending_a_batch_that_was_never_validated_is_its_file() -> None:
    house = PipelineHouse()
    house.blobs.put("files/in", b"x" * (SMALL_BYTES + 1))
    house.batches.add(new_batch())
    assert house.finalization.work("batch_1") is None
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    assert house.finalization.work("batch_1") == Work("tenant", SMALL_BYTES + 1, is_write=True)


def test_there_is_nothing_to_finalize_of_a_batch_that_has_ended() -> None:
    house = PipelineHouse()
    house.add_running(total=1)
    house.record(0)
    house.finalization.finalize("batch_1")

    assert house.batch().status is Status.COMPLETED
    assert house.finalization.work("batch_1") is None
    assert house.finalization.work("batch_unknown") is None


def test_a_validation_rests_after_each_mib_of_its_file() -> None:
    house = House()
    house.arrange(request("a") + b"\n" * 5 * MIB)
    rests: list[None] = []

    house.service.validate("batch_1", lambda: rests.append(None))

    assert len(rests) == 6


def test_a_finalization_rests_after_each_mib_of_its_results() -> None:
    house = PipelineHouse()
    house.add_running(total=200)
    payload = b'{"x":"%b"}' % (b"x" * (MIB // 10))
    house.results.record([result_of(position)._replace(payload=payload) for position in range(200)])
    rests: list[None] = []

    house.finalization.finalize("batch_1", lambda: rests.append(None))

    assert 15 <= len(rests) <= 20
