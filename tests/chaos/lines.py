"""The lines of a round's batches, each with a marker of its own, and what is expected of each."""

import json
from dataclasses import dataclass
from random import Random

from tests.chaos.model_server import GARBLED, OK, POISON, REFUSED
from tests.integration.pipeline import CHAT

MIN_LATENCY_MS, MAX_LATENCY_MS = 50, 300
# Of both upstreams, unevenly.
_MODELS = ("one-echo", "two-echo", "one-echo")
# A garbled line is known to be at fault by the answers that these later lines get. Without them it takes 20 s more.
_JUDGED_BY = 60
# One line in so many is answered with an error, so that both files exist.
_ERROR_EVERY = 25


@dataclass(frozen=True)
class Line:
    """One line of an input."""

    custom_id: str
    marker: str
    latency_ms: int
    kind: str
    model: str

    def encode(self) -> bytes:
        content = f"{self.marker} {self.latency_ms} {self.kind}"
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        return json.dumps({"custom_id": self.custom_id, "method": "POST", "url": CHAT, "body": body}).encode()


def make_lines(rng: Random, batch: str, count: int, *, is_poisoned: bool = False) -> list[Line]:
    """Return so many lines; a poisoned one kills each process that sends it."""
    poisoned = rng.randrange(count) if is_poisoned else -1
    lines = []
    for number in range(count):
        kind = OK
        if number == poisoned:
            kind = POISON
        elif count > 1 and rng.randrange(_ERROR_EVERY) == 0:
            kind = rng.choice((REFUSED, GARBLED)) if number < count - _JUDGED_BY else REFUSED
        latency_ms = rng.randint(MIN_LATENCY_MS, MAX_LATENCY_MS)
        model = _MODELS[number % len(_MODELS)]
        lines.append(Line(f"id-{number}", f"{batch}-{number}", latency_ms, kind, model))
    return lines
