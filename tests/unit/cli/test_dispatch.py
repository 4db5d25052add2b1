import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli.dispatch import explain_look, print_explained
from app.cli.main import main
from app.domain.fairness import Weights
from app.services.dispatch import DispatchService
from app.services.sharing import SharingService
from tests.unit.services.pipeline_house import NOW, PipelineHouse

HEAVY = Weights({"heavy": 3.0})


def run(*arguments: str, **environ: str) -> Result:
    unset = {"WYLON_DATA": None, "WYLON_DATABASE_URL": None, "WYLON_BROKER_URL": None}
    return CliRunner().invoke(main, ["dispatch", "explain", *arguments], env={**unset, **environ})


def look_service(house: PipelineHouse, weights: Weights = HEAVY) -> SharingService:
    return SharingService(house.batches, house.roster, house.clock, weights)


def dispatch(house: PipelineHouse) -> DispatchService:
    return DispatchService(house.batches, house.queue, house.roster, house.clock, HEAVY)


def explained_by(house: PipelineHouse) -> dict[str, Any]:
    """Return what is explained of the one upstream."""
    (explained,) = explain_look(look_service(house).look(), HEAVY.deadline)["upstreams"]
    return explained


def house_of_two() -> PipelineHouse:
    house = PipelineHouse()
    house.add_worker(concurrency=32, lines_per_s=10.0)
    house.add_running("batch_heavy", total=1_000, tenant_id="heavy")
    house.add_running("batch_light", total=1_000, tenant_id="light", expires_at=NOW + 43_200)
    return house


def test_what_would_go_now_is_what_dispatch_sends() -> None:
    house = house_of_two()
    explained = explained_by(house)

    dispatch(house).refill()

    for row in explained["batches"]:
        assert row["tasks_now"] == len(house.published(row["batch"])) > 0
        assert row["why"] == "now: the window has room"


def test_looking_changes_nothing() -> None:
    house = house_of_two()
    before = house.batch("batch_heavy")

    explain_look(look_service(house).look(), HEAVY.deadline)

    assert house.batch("batch_heavy") == before
    assert house.queue.published == []


def test_tenants_have_what_they_deserve_beside_what_they_have() -> None:
    house = house_of_two()
    dispatch(house).refill()

    explained = explained_by(house)

    shown = {row["tenant"]: (row["weight"], row["deserved"], row["actual"]) for row in explained["tenants"]}
    assert shown == {"heavy": (3.0, 0.75, 0.75), "light": (1.0, 0.25, 0.25)}
    assert explained["window"]["lines_outstanding"] == explained["window"]["lines"]
    assert "each of 32 calls" in explained["window"]["reason"]


def test_when_the_window_is_full_batches_come_in_the_order_of_their_next_turn() -> None:
    house = house_of_two()
    dispatch(house).refill()
    house.record(*range(10), batch_id="batch_light")

    rows = explained_by(house)["batches"]

    assert [row["batch"] for row in rows] == ["batch_light", "batch_heavy"]
    assert rows[0]["why"].startswith("waits for room: ")


def test_batches_with_nothing_left_to_send_count_for_their_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    house = house_of_two()
    for number in range(3):
        house.add_running(f"batch_done_{number}", total=5, tenant_id="heavy")
        house.dispatch_all(f"batch_done_{number}")

    explained = explained_by(house)
    print_explained(explain_look(look_service(house).look(), HEAVY.deadline))

    assert [(row["running_batches"], row["lines_outstanding"]) for row in explained["tenants"]] == [(4, 15), (1, 0)]
    assert explained["window"]["lines_outstanding"] == 15
    assert capsys.readouterr().out.endswith("\n3 more that have lines outstanding\n")


def test_a_batch_that_its_tenant_keeps_waiting_is_told_from_one_without_room() -> None:
    house = PipelineHouse()
    for number in range(200):
        house.add_running(f"batch_{number:03}", total=100, lines_per_task=50)

    rows = explained_by(house)["batches"]

    assert len(rows) == 200
    assert rows[0]["why"] == "now: the window has room"
    assert rows[-1]["why"] == "waits for room: others have less for their weight or a nearer deadline"


def test_the_table_has_a_row_for_each_tenant_and_batch(capsys: pytest.CaptureFixture[str]) -> None:
    house = house_of_two()
    house.clock.advance(90_000)

    print_explained(explain_look(look_service(house).look(), HEAVY.deadline))

    shown = capsys.readouterr().out
    for part in ("batch_heavy", "batch_light", "heavy", "light", "over", "window"):
        assert part in shown


def test_each_upstream_is_explained_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    house = PipelineHouse(upstreams=("gpu", "cpu"))
    house.add_worker_of(gpu=8, cpu=4)
    house.add_for({"gpu": 3, "cpu": 100}, "batch_mixed")
    house.add_for({"gpu": 100}, "batch_gpu")
    sharing = SharingService(house.batches, house.roster, house.clock, HEAVY, house.upstreams)
    now = explain_look(sharing.look(), HEAVY.deadline)["upstreams"]

    house.dispatch.refill()
    print_explained(explain_look(sharing.look(), HEAVY.deadline))

    tasks_now = {lane["upstream"]: {row["batch"]: row["tasks_now"] for row in lane["batches"]} for lane in now}
    assert tasks_now == {"gpu": {"batch_mixed": 3, "batch_gpu": 17}, "cpu": {"batch_mixed": 10}}
    gpu, _, cpu = capsys.readouterr().out.partition("upstream cpu\n")
    # Its lines for this one are all handed out.
    assert "batch_mixed" not in gpu
    assert "\n1 more that have lines outstanding\n" in gpu
    assert "batch_mixed" in cpu
    assert "batch_gpu" not in cpu


def test_lines_for_an_upstream_that_is_not_configured_are_told_with_their_batches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    house = PipelineHouse(upstreams=("gpu", "cpu"))
    house.add_for({"gpu": 3, "gone": 1_500}, "batch_mixed")
    house.add_for({"gone": 500}, "batch_gone")
    sharing = SharingService(house.batches, house.roster, house.clock, HEAVY, house.upstreams)

    explained = explain_look(sharing.look(), HEAVY.deadline, sharing.stranded())
    print_explained(explained)

    assert explained["missing_upstreams"] == [
        {"upstream": "gone", "lines": 2_000, "batch_ids": ["batch_mixed", "batch_gone"]}
    ]
    told = capsys.readouterr().out.partition("upstream gone is not configured\n")[2]
    assert told.startswith("2,000 lines wait ")
    assert told.endswith(": batch_mixed, batch_gone\n")


def test_without_a_database_it_is_one_line_and_none_is_made(tmp_path: Path) -> None:
    result = run("--data", str(tmp_path))

    assert result.exit_code == 1
    assert result.output.startswith("Error: There is no database")
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_broker_it_is_one_line(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["migrate"], env={"WYLON_DATA": str(tmp_path)}).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    result = run("--data", str(tmp_path), "--json", WYLON_BROKER_URL=f"redis://127.0.0.1:{port}/0")

    assert result.exit_code == 1
    assert result.output.startswith(
        f"Error: The broker 127.0.0.1:{port}/0 of WYLON_BROKER_URL can't be used: nothing listens"
    )


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    result = run("--data", str(tmp_path), WYLON_TENANT_WEIGHTS="heavy=much")

    assert result.exit_code == 2
    assert "WYLON_TENANT_WEIGHTS" in result.output


def test_json_reads_back() -> None:
    house = house_of_two()

    explained = explain_look(look_service(house).look(), HEAVY.deadline)

    assert json.loads(json.dumps(explained)) == explained
