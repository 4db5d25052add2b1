from bench.document import figures
from bench.report import Row


def row(measured: str, *, is_met: bool = True) -> Row:
    return Row("h", "the API", measured, "≤ 50 ms", is_met, notes=[f"p50 of a run with {measured}"])


def test_a_row_has_what_each_run_measured() -> None:
    page = figures([{"h": row("12 ms")}, {"h": row("14 ms")}])

    assert "| h: the API | 12 ms | 14 ms | ≤ 50 ms | yes |" in page
    assert "    h: p50 of a run with 12 ms" in page


def test_a_row_that_one_run_missed_is_not_met() -> None:
    page = figures([{"h": row("12 ms")}, {"h": row("56 ms", is_met=False)}])

    assert "| h: the API | 12 ms | 56 ms | ≤ 50 ms | **no** |" in page
