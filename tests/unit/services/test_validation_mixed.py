"""Files whose lines go to several upstreams."""

from dataclasses import dataclass
from itertools import count

import pytest

from app.domain.batch import Section
from app.domain.plan import input_order, unpack_entries
from app.domain.prefix import model_hash
from app.domain.upstream import Routes, UpstreamSpec
from tests.unit.services.validation_house import CHAT, House, request

EMBEDDINGS = "/v1/embeddings"


def spec(name: str, models: str, *endpoints: str) -> UpstreamSpec:
    return UpstreamSpec(
        name,
        (f"http://{name}/v1",),
        models=(models,),
        endpoints=endpoints or None,
        connect_timeout_s=1.0,
        first_byte_timeout_s=1.0,
        call_timeout_s=1.0,
        max_tries=1,
    )


THREE = Routes([spec("gpu", "gpu-*"), spec("cpu", "cpu-*"), spec("embedder", "embed-*", EMBEDDINGS)])


@dataclass
class RoutedHouse(House):
    """Validation with these upstreams."""

    routes: Routes = THREE

    def route(self, model: str | None, endpoint: str) -> str | None:
        return self.routes.route(model, endpoint)

    @property
    def plan(self) -> bytes:
        return self.blobs.stored[self.batch.plan_blob or ""]


@pytest.fixture
def house() -> RoutedHouse:
    return RoutedHouse(pinned=2)


def lines_for(*models: str) -> list[bytes]:
    return [request(number, model=model) for number, model in enumerate(models)]


def test_lines_go_by_upstream_each_in_the_order_of_the_file(house: RoutedHouse) -> None:
    lines = lines_for("cpu-a", "gpu-a", "gpu-b", "cpu-a", "gpu-a")

    planned = house.planned_of(b"\n".join(lines))

    assert planned == [lines[0], lines[3], lines[1], lines[2], lines[4]]
    assert house.batch.sections == (
        Section("cpu", 0, 1, 0, 2, next_task=0),
        Section("gpu", 1, 3, 2, 5, next_task=1),
    )


def test_the_upstream_of_the_first_line_comes_first(house: RoutedHouse) -> None:
    house.planned_of(b"\n".join(lines_for("cpu-a", "gpu-a", "gpu-a", "gpu-a")))

    assert [section.upstream for section in house.batch.sections] == ["cpu", "gpu"]
    assert (house.batch.total, house.batch.tasks, house.batch.lines_per_task) == (4, 3, 2)


def test_the_order_of_the_file_is_found_again_in_the_plan(house: RoutedHouse) -> None:
    house.planned_of(b"\n".join(lines_for("cpu-a", "gpu-a", "cpu-a", "gpu-a")))

    numbers = [entry.number for entry in unpack_entries(house.plan)]

    assert numbers == [1, 3, 2, 4]
    assert input_order(house.plan) == [0, 2, 1, 3]


def test_models_of_one_upstream_make_one_section(house: RoutedHouse) -> None:
    lines = lines_for("gpu-a", "gpu-b", "gpu-a")

    planned = house.planned_of(b"\n".join(lines))

    assert planned == lines
    assert house.batch.sections == (Section("gpu", 0, 2, 0, 3, next_task=0),)


def test_lines_that_begin_alike_are_put_together_within_their_upstream() -> None:
    house = RoutedHouse(groups_at_once=1)
    # A plan knows models by a short hash only, and these two have the same.
    cpu_model = next(name for name in map("cpu-{}".format, count()) if model_hash(name) == model_hash("gpu-a"))
    prompts = [f"You are number {number % 2}. " * 100 for number in range(16)]
    lines = [
        request(number, model=("gpu-a", cpu_model)[number // 2 % 2], messages=[{"role": "system", "content": prompt}])
        for number, prompt in enumerate(prompts)
    ]

    planned = [lines.index(line) for line in house.planned_of(b"\n".join(lines))]

    assert planned == [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]


def test_a_line_without_a_model_goes_to_the_first_upstream_that_takes_its_endpoint(house: RoutedHouse) -> None:
    house.planned_of(request("a", url="/v1/moderations", model=None, input="x"), "/v1/moderations")

    assert [section.upstream for section in house.batch.sections] == ["gpu"]


def test_a_line_goes_only_where_its_endpoint_is_taken(house: RoutedHouse) -> None:
    house.planned_of(request("a", url=EMBEDDINGS, model="embed-1", input="x"), EMBEDDINGS)

    assert [section.upstream for section in house.batch.sections] == ["embedder"]


def test_a_model_whose_upstream_does_not_take_the_endpoint_is_not_found(house: RoutedHouse) -> None:
    errors = house.errors_of(b"\n".join(lines_for("gpu-a", "embed-1")))

    assert [(error.code, error.line, error.param) for error in errors] == [("model_not_found", 2, "body.model")]


def test_where_no_upstream_takes_the_endpoint_a_line_without_a_model_says_so() -> None:
    house = RoutedHouse(routes=Routes([spec("embedder", "*", EMBEDDINGS)]))

    errors = house.errors_of(
        b"\n".join(request(number, url="/v1/moderations", model=None, input="x") for number in range(2)),
        "/v1/moderations",
    )

    assert [(error.code, error.line, error.param) for error in errors] == [
        ("model_not_found", 1, "url"),
        ("model_not_found", 2, "url"),
    ]
    assert "No model server takes /v1/moderations" in errors[0].message


def test_a_mixed_file_with_a_bad_line_leaves_no_plan(house: RoutedHouse) -> None:
    errors = house.errors_of(b"\n".join([*lines_for("gpu-a", "cpu-a"), b"broken"]), CHAT)

    assert [(error.code, error.line) for error in errors] == [("invalid_json_line", 3)]
    assert (house.batch.plan_blob, house.batch.sections) == (None, ())


def test_the_lines_per_task_are_those_of_the_whole_file() -> None:
    house = RoutedHouse()

    house.planned_of(b"\n".join(lines_for(*(["gpu-a"] * 1_001 + ["cpu-a"] * 2))))

    assert house.batch.lines_per_task == 2
    assert [section.end_task for section in house.batch.sections] == [501, 502]
