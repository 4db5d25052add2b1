"""The comparison: Ray Data's HTTP processor over the same file and upstream, in a process of its own.

Run as `python -m bench.ray_http URL INPUT OUTPUT`; prints one JSON object, lines/s by configuration. Needs
`pip install 'wylon[bench]'`. The time is from reading the file to writing the results, without Ray's start, which is
paid once. Ray keeps its results in memory until the end.
"""

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

# An actor calls a batch at once; the better configuration is the yardstick.
CONFIGURATIONS = ({"batch_size": 64, "concurrency": 1}, {"batch_size": 256, "concurrency": 2})


def main() -> None:
    """Measure the configurations and print the lines/s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="base URL that ends in /v1")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, help="an empty folder")
    given = parser.parse_args()
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _temp_dir=str(given.output / "ray"),
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        # The first run starts the workers for the later runs.
        _run(given.url, given.input, given.output / "warm", CONFIGURATIONS[0], limit=200)
        rates = {}
        for number, configuration in enumerate(CONFIGURATIONS):
            name = f"{configuration['concurrency']} actors of {configuration['batch_size']}"
            rates[name] = _run(given.url, given.input, given.output / str(number), configuration)
    finally:
        ray.shutdown()
    print(json.dumps(rates))


def _run(url: str, path: Path, output: Path, configuration: dict[str, int], limit: int | None = None) -> float:
    """Return the lines/s of a run; RuntimeError if answers are missing."""
    config = HttpRequestProcessorConfig(url=f"{url}/chat/completions", qps=None, **configuration)
    process = build_processor(config, preprocess=_request, postprocess=_answer)
    began = time.perf_counter()
    lines = ray.data.read_json(str(path), lines=True)
    process(lines.limit(limit) if limit else lines).write_json(str(output))
    seconds = time.perf_counter() - began
    answered = sum(1 for part in output.glob("*.json") for line in part.open() if "choices" in line)
    wanted = limit or sum(1 for _ in path.open())
    if answered != wanted:
        raise RuntimeError(f"Ray answered {answered} of {wanted} lines.")
    return wanted / seconds


def _request(row: dict[str, Any]) -> dict[str, Any]:
    return {"payload": row["body"], "custom_id": row["custom_id"]}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": row["custom_id"], "answer": json.dumps(row["http_response"])}


if __name__ == "__main__":
    main()
