"""Row z: equal lines in various settings, on fresh deployments, compared with the bare loop of the same run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.plan import lines_per_task
from bench.batch_run import BatchRun, require_completed
from bench.footprint import cpu_between, read_footprints
from bench.processes import deployment, upstream
from bench.report import Row
from bench.requests_file import write_requests
from bench.scaling_postgres import DurablePostgres
from bench.throughput import bare_rate

_BATCH_WITHIN_S = 600.0
_MICROS = 1_000_000


@dataclass(frozen=True)
class Variant:
    """A deployment's settings; with one line a task, fewer lines are enough to show the pace."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: int = 2
    on_postgres: bool = False
    share_of_lines: float = 1.0


VARIANTS = (
    Variant("auto"),
    Variant("1 line a task", {"WYLON_LINES_PER_TASK": "1"}, share_of_lines=0.2),
    Variant("8 lines a task", {"WYLON_LINES_PER_TASK": "8"}, share_of_lines=0.5),
    Variant("1 worker", workers=1),
    Variant("PostgreSQL", on_postgres=True),
)


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Run a batch in every variant; the row has no bar."""
    figures: dict[str, dict[str, float]] = {}
    with upstream(folder) as url, _postgres_url() as postgres_url:
        for number, variant in enumerate(VARIANTS):
            path = folder / f"requests-{number}.jsonl"
            own_lines = int(lines * variant.share_of_lines)
            label = variant.name
            if label == "auto":
                label = f"auto ({lines_per_task(own_lines, None)} lines a task)"
            write_requests(path, own_lines)
            settings = dict(variant.settings) | ({"WYLON_DATABASE_URL": postgres_url} if variant.on_postgres else {})
            options = ("--workers", str(variant.workers))
            with deployment(folder / f"data-{number}", url, *options, settings=settings) as deployed:
                bare = bare_rate(url, path)
                before = read_footprints(deployed)
                with BatchRun(deployed, path) as run:
                    run.create()
                    batch = run.wait(_BATCH_WITHIN_S)
                    # Measured from outside, for PostgreSQL and SQLite alike: too long by up to a poll.
                    seconds = run.elapsed_s
                    require_completed(batch, own_lines)
                spent = cpu_between(before, read_footprints(deployed))
            rate = own_lines / seconds
            figures[label] = {
                "lines_per_s": rate,
                "ratio": rate / bare,
                **{f"{name}_us_per_line": cpu_s / own_lines * _MICROS for name, cpu_s in spent.items() if name != "up"},
            }
    return Row(
        key,
        f"{lines:,} small lines in other settings",
        "; ".join(f"{name}: {each['ratio']:.2f}" for name, each in figures.items()),
        "–",
        True,
        [f"{name}: {each['lines_per_s']:,.0f} lines/s; {_costs(each)}" for name, each in figures.items()],
        figures,
    )


def _costs(figures: Mapping[str, float]) -> str:
    ending = "_us_per_line"
    costs = sorted((name.removesuffix(ending), value) for name, value in figures.items() if name.endswith(ending))
    return f"µs of CPU a line: {', '.join(f'{name} {value:.0f}' for name, value in costs)}"


@contextmanager
def _postgres_url() -> Iterator[str]:
    server = DurablePostgres()
    try:
        server.start()
        yield server.database_url()
    finally:
        server.stop()
