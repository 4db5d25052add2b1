"""A shuffled file of short questions behind a few long system prompts."""

import json
import random
from pathlib import Path

PROMPTS = 8
# Answers of a word or two: the benchmark measures the reading of prompts.
_MAX_TOKENS = 8

_TRADES = (
    ("a railway clerk", "timetables, platforms and lost luggage"),
    ("a baker", "doughs, ovens and the day's bread"),
    ("a ship's doctor", "fevers, bandages and the health of the crew"),
    ("a gardener", "seeds, soil and the pruning of trees"),
    ("a watchmaker", "springs, wheels and the hours of the day"),
    ("a librarian", "catalogues, shelves and overdue books"),
    ("a postman", "letters, stamps and the streets of the town"),
    ("a carpenter", "planks, joints and the finish of tables"),
)
_RULES = (
    "Rule {number}: when {who} is asked about {what}, the answer is one plain word.",
    "Rule {number}: whatever has nothing to do with {what} is answered politely and briefly.",
    "Rule {number}: {who} never guesses, and says so where nothing is known of {what}.",
)
_QUESTIONS = ("What comes first?", "What is needed most?", "Who should be asked?", "What may be left out?")


def write_shuffled(path: Path, lines: int) -> None:
    """Write `lines` chat requests with shuffled system prompts; every call writes the same file."""
    chance = random.Random(4)
    prompts = [_system_prompt(number) for number in range(PROMPTS)]
    chosen = [prompts[number % PROMPTS] for number in range(lines)]
    chance.shuffle(chosen)
    with path.open("w", encoding="ascii") as file:
        for number, prompt in enumerate(chosen):
            question = f"Case {number}. {_QUESTIONS[number % len(_QUESTIONS)]}"
            messages = [{"role": "system", "content": prompt}, {"role": "user", "content": question}]
            body = {"model": "small", "messages": messages, "max_tokens": _MAX_TOKENS, "temperature": 0}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n")


def _system_prompt(number: int) -> str:
    """Return a text of 1,600 to 2,800 characters, longer for a higher number."""
    who, what = _TRADES[number]
    rules = [_RULES[rule % len(_RULES)].format(number=rule + 1, who=who, what=what) for rule in range(15 + number)]
    return f"You speak as {who} who knows all about {what}. " + " ".join(rules)
