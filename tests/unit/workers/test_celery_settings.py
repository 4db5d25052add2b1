from tests.unit.services.pipeline_house import PipelineHouse
from workers import celery_app


def test_a_worker_takes_three_times_the_messages_that_dispatch_has_wait_with_it() -> None:
    concurrency = celery_app.settings.concurrency
    house = PipelineHouse()
    house.add_running(total=50_000)
    house.add_worker(concurrency=concurrency, lines_paused=50_000)

    published = house.dispatch.refill()

    assert celery_app.app.conf.worker_concurrency >= 3 * published
