from pathlib import Path

import pytest

from bench.report import Mark, Row, read_json, write_json

# Left out by `make setup`.
pytest.importorskip("matplotlib")
from bench.charts import draw


def test_charts_are_drawn_of_what_was_written(tmp_path: Path) -> None:
    samples = [
        {
            "at_s": at_s / 10,
            "latency_s": at_s * 0.3,
            "served": at_s,
            "in_service": 4,
            "queued": 1,
            "limit": 5,
        }
        for at_s in range(120)
    ]
    figures = {"samples": samples, "queues": True, "capacity": 4}
    marks = [Mark("capacity used", 0.99, 0.95), Mark("mean latency", 1.6, 1.5, is_most=True)]
    write_json([Row("n", "one worker, queueing", "", "", is_met=False, figures=figures, marks=marks)], tmp_path / "a")

    drawn = draw(read_json(tmp_path / "a"), tmp_path / "charts")

    assert [path.name for path in drawn] == ["margins.svg", "limit.svg"]
    assert all(path.read_text().startswith("<?xml") for path in drawn)


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    rows = [Row("d", "", "", "", is_met=True, marks=[Mark("used", 0.99, 0.97)])]

    first, second = (draw(rows, tmp_path / name)[0].read_text() for name in ("one", "two"))

    assert first == second


def test_throughput_and_costs_are_drawn_of_the_rows_that_have_them(tmp_path: Path) -> None:
    costs = {"ratio": 0.5, "worker-1_us_per_line": 40.0, "worker-2_us_per_line": 41.0, "control_us_per_line": 16.0}
    rows = [
        Row("a", "", "", "", is_met=True, figures={"ratio": 1.1}),
        Row("g", "", "", "", is_met=True, figures={"ratio": 4.0}),
        Row("z", "", "", "", is_met=True, figures={"auto (50 lines a task)": costs, "1 worker": costs}),
    ]

    drawn = draw(rows, tmp_path)

    assert [path.name for path in drawn] == ["throughput.svg", "costs.svg"]
