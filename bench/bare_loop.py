"""The yardstick: an aiohttp and uvloop loop that posts every line and keeps no result.

Run as `python -m bench.bare_loop URL INPUT`; prints one JSON object, lines/s by calls in flight.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

from bench.requests_file import read_bodies

# Fewer calls leave the core idle, more calls only lengthen the loop's lists: the better width is the yardstick.
IN_FLIGHT = (16, 64)


async def post_all(url: str, bodies: list[bytes], in_flight: int) -> float:
    """Post the bodies to a chat endpoint, `in_flight` at once; return the seconds taken."""
    remaining = iter(bodies)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        began = time.perf_counter()
        await asyncio.gather(*(_post_each(session, url, remaining) for _ in range(in_flight)))
        return time.perf_counter() - began


async def _post_each(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    headers = {"content-type": "application/json"}
    for body in bodies:
        async with session.post(url, data=body, headers=headers) as response:
            await response.read()
            if response.status != 200:
                raise RuntimeError(f"The upstream answered {response.status}.")


def main() -> None:
    """Measure once per width and print the lines/s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="base URL that ends in /v1")
    parser.add_argument("input", type=Path)
    given = parser.parse_args()
    bodies = read_bodies(given.input)
    rates = {
        width: len(bodies) / uvloop.run(post_all(f"{given.url}/chat/completions", bodies, width)) for width in IN_FLIGHT
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
