"""The order of the plan: lines that begin alike go together where that pays."""

import random
import tracemalloc

import pytest

from app.domain.limits import MIB
from app.domain.plan import ENTRY_BYTES, unpack_entries
from tests.unit.services.validation_house import CHAT, House, request

PROMPTS = 8


def asked(number: int, prompt: int, *, url: str = CHAT, **body: object) -> bytes:
    """Return a short question behind one of a few long system prompts."""
    system = {"role": "system", "content": f"You are number {prompt}. " * 100}
    return request(number, url=url, messages=[system, {"role": "user", "content": f"Say {number}"}], **body)


def shuffled(count: int) -> list[int]:
    prompts = [number % PROMPTS for number in range(count)]
    random.Random(1).shuffle(prompts)
    return prompts


def test_lines_with_the_same_system_prompt_follow_each_other() -> None:
    prompts = shuffled(200)
    lines = [asked(number, prompt) for number, prompt in enumerate(prompts)]

    planned = House().planned_of(b"\n".join(lines))

    first_seen = list(dict.fromkeys(prompts))
    assert planned == sorted(lines, key=lambda line: first_seen.index(prompts[lines.index(line)]))


def test_some_prompts_go_side_by_side() -> None:
    lines = [asked(number, number // 4) for number in range(16)]

    planned = House(groups_at_once=2).planned_of(b"\n".join(lines))

    assert [lines.index(line) for line in planned] == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_numbers_and_places_go_with_their_lines() -> None:
    house = House()
    prompts = shuffled(64)
    house.planned_of(b"\n\n".join(asked(number, prompt) for number, prompt in enumerate(prompts)))

    entries = list(unpack_entries(house.blobs.stored[house.batch.plan_blob or ""]))

    assert sorted(entry.number for entry in entries) == list(range(1, 128, 2))
    assert sorted(entries) == sorted(entries, key=lambda entry: entry.offset) != entries


def test_models_stay_mixed_as_they_are_in_the_file() -> None:
    lines = [asked(number, number // 2 % 2, model=("small", "large")[number % 2]) for number in range(16)]

    planned = House().planned_of(b"\n".join(lines))

    assert [b'"small"' in line for line in planned] == [True, False] * 8
    assert planned != lines


def test_models_with_prompts_of_their_own_have_work_all_the_time() -> None:
    models = ["large" if number % 3 else "small" for number in range(150)]
    lines = [asked(number, number % 7, model=model) for number, model in enumerate(models)]
    # What the small model is asked begins like nothing that the large one is.
    lines = [line.replace(b"You are", b"Be") if b'"small"' in line else line for line in lines]

    planned = House(groups_at_once=4).planned_of(b"\n".join(lines))

    assert [b'"small"' in line for line in planned] == [model == "small" for model in models]
    assert planned != lines


@pytest.mark.parametrize("kinds", [1, 33, 64])
def test_lines_of_one_kind_or_of_too_many_stay_as_they_are(kinds: int) -> None:
    lines = [asked(number, number % kinds) for number in range(64)]

    assert House().planned_of(b"\n".join(lines)) == lines


def test_an_operator_has_lines_sent_as_they_come() -> None:
    lines = [asked(number, prompt) for number, prompt in enumerate(shuffled(64))]

    assert House(groups_at_once=0).planned_of(b"\n".join(lines)) == lines


@pytest.mark.parametrize("url", ["/v1/embeddings", "/v1/moderations"])
def test_lines_whose_model_keeps_nothing_stay_as_they_are(url: str) -> None:
    lines = [request(number, url=url, input=f"{number % 4}" * 300) for number in range(64)]

    assert House().planned_of(b"\n".join(lines), url) == lines


def test_a_large_plan_takes_little_memory() -> None:
    lines = [request(number, messages=[{"content": f"{number % 9}" * 300}]) for number in range(10_000)]
    house = House()
    house.arrange(b"\n".join(lines))
    del lines

    tracemalloc.start()
    house.service.validate("batch_1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # 320 kB of plan, and the set of custom_ids.
    assert peak < 8 * MIB
    assert len(house.blobs.stored[house.batch.plan_blob or ""]) == 10_000 * ENTRY_BYTES
