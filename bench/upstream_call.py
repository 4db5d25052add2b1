"""The upstream adapter beside the bare loop, over the same upstream: the cost of sorting, checking and timeouts.

Run as `python -m bench.upstream_call URL`, with an upstream that answers at once, for example `wylon upstream`.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from app.adapters.upstream.client import HttpUpstream
from app.domain.retry import Trouble
from bench.bare_loop import post_all
from bench.requests_file import read_bodies, write_requests


async def call_all(url: str, bodies: list[bytes], in_flight: int) -> float:
    """Call the adapter with the bodies, `in_flight` at once; return the seconds taken."""
    upstream = HttpUpstream(url, api_key="key", connect_timeout_s=10, first_byte_timeout_s=600)
    remaining = iter(bodies)
    began = time.perf_counter()
    await asyncio.gather(*(_call_each(upstream, remaining) for _ in range(in_flight)))
    taken_s = time.perf_counter() - began
    await upstream.close()
    return taken_s


async def _call_each(upstream: HttpUpstream, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        answer = await upstream.call("/v1/chat/completions", body, 900.0)
        if answer.trouble is not Trouble.NONE:
            raise RuntimeError(f"The call failed: {answer}")


def main() -> None:
    """Measure the bare loop and the adapter in turns; print lines/s and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="base URL that ends in /v1")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        write_requests(path, given.lines)
        bodies = read_bodies(path)
    bare, adapter = [], []
    for _ in range(given.rounds):
        bare.append(given.lines / uvloop.run(post_all(f"{given.url}/chat/completions", bodies, given.in_flight)))
        adapter.append(given.lines / uvloop.run(call_all(given.url, bodies, given.in_flight)))
    bare_rate, adapter_rate = statistics.median(bare), statistics.median(adapter)
    print(f"bare loop {bare_rate:,.0f}/s, adapter {adapter_rate:,.0f}/s, ratio {adapter_rate / bare_rate:.3f}")


if __name__ == "__main__":
    main()
