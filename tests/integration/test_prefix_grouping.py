"""Lines that begin alike go together, and nobody sees it in the files."""

import json
import random

import pytest

from app.domain.lifecycle import Status
from app.domain.plan import input_order
from tests.integration.databases import on_each_database
from tests.integration.pipeline import CHAT, Pipeline, custom_ids

pytestmark = [pytest.mark.integration, on_each_database]

PROMPTS = 8
# Several lines a task, of which each has its place in the file.
LINES = 4_000


def shuffled_lines() -> list[bytes]:
    prompts = [number % PROMPTS for number in range(LINES)]
    random.Random(1).shuffle(prompts)
    return [question(number, prompt) for number, prompt in enumerate(prompts)]


def question(number: int, prompt: int) -> bytes:
    fault = "[[fail:400]] " if number % 50 == 0 else ""
    messages = [
        {"role": "system", "content": f"You are number {prompt}. " * 20},
        {"role": "user", "content": f"{fault}Say {number}"},
    ]
    body = {"model": "echo", "messages": messages}
    return json.dumps({"custom_id": f"id-{number}", "method": "POST", "url": CHAT, "body": body}).encode()


def test_files_stay_in_the_order_of_the_input(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(shuffled_lines())
    pipeline.await_recorded(batch_id, 1)
    running = pipeline.batch(batch_id)
    plan = pipeline.stores.blobs.read(running.plan_blob or "", 0, LINES * 32)

    batch = pipeline.await_end(batch_id)

    output, errors = pipeline.lines_of(batch.output_file_id), pipeline.lines_of(batch.error_file_id)
    assert batch.status is Status.COMPLETED
    assert input_order(plan) is not None
    assert custom_ids(output) == [f"id-{number}" for number in range(LINES) if number % 50]
    assert custom_ids(errors) == [f"id-{number}" for number in range(LINES) if number % 50 == 0]
    for line in output:
        answer = line["response"]["body"]["choices"][0]["message"]["content"]
        assert answer.endswith(f"Say {line['custom_id'].removeprefix('id-')}")
