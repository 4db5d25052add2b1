"""Mutations of the committed corpus, and what they came to: `python -m tests.fuzz --runs 1000000 --seed 1`."""

import argparse
import hashlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from tests.fuzz.campaign import Tally, raise_hangs, run
from tests.fuzz.mutation import load
from tests.fuzz.targets import TARGETS

_SHARE = 5_000
# Of the inputs in all, by what one costs: a file is validated as a whole, a form is read twice.
_WEIGHTS = {"line": 9, "answer": 9, "form": 1, "file": 1}


def _run_share(target: str, count: int, seed: int) -> Tally:
    return run(target, load(target), count, seed)


def _name(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()[:10]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="one or more; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that show a defect")
    options = parser.parse_args()
    targets = options.target or [*TARGETS]
    tallies = {target: Tally(target) for target in targets}
    began_at = time.monotonic()
    with ProcessPoolExecutor(options.jobs, initializer=raise_hangs) as pool:
        futures = []
        for target in targets:
            count = -(-options.runs * _WEIGHTS[target] // sum(_WEIGHTS[name] for name in targets))
            for number, start in enumerate(range(0, count, _SHARE)):
                seed = options.seed * 1_000_000 + number
                futures.append(pool.submit(_run_share, target, min(_SHARE, count - start), seed))
        for future in futures:
            tally = future.result()
            tallies[tally.target].add(tally)
    row = "{:8} {:>10} {:>7} {:>7} {:>12} {:>10}  {}"
    click.echo(row.format("target", "inputs", "cpu s", "crashes", "memory/input", "slowest ms", "slowest input"))
    for tally in tallies.values():
        slowest = f"{len(tally.slowest):,} bytes, sha1 {_name(tally.slowest)}"
        numbers = (
            f"{tally.seconds:.0f}",
            len(tally.defects),
            f"{tally.memory_ratio:.1f}",
            f"{tally.slowest_s * 1e3:.0f}",
        )
        click.echo(row.format(tally.target, f"{tally.inputs:,}", *numbers, slowest))
        for fault, data in tally.defects.items():
            click.echo(f"  {fault}\n    {data[:300]!r}")
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{tally.target}-{_name(data)}").write_bytes(data)
    inputs = sum(tally.inputs for tally in tallies.values())
    crashes = sum(len(tally.defects) for tally in tallies.values())
    click.echo(f"{inputs:,} inputs, {crashes} crashes, {time.monotonic() - began_at:.0f} s")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
