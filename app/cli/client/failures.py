"""Find why lines of a batch failed: the most frequent error in the batch's error file."""

import json
from collections import Counter
from collections.abc import Iterable

# Messages that quote the line would make as many kinds as lines: further kinds count together as other errors.
_MAX_KINDS = 1_000
_MAX_SHOWN_CHARS = 300
# Lines with these codes never ran, and so did not fail.
_NEVER_RAN = frozenset({"batch_cancelled", "batch_expired"})
_OTHER = "other errors"


def most_frequent_error(lines: Iterable[str]) -> tuple[str, int] | None:
    """Return the most frequent error of an error file and its number of lines; None if no line failed."""
    counts: Counter[str] = Counter()
    for line in lines:
        kind = _kind_of(line)
        if kind is None:
            continue
        counts[kind if kind in counts or len(counts) < _MAX_KINDS else _OTHER] += 1
    found = counts.most_common(1)
    return found[0] if found else None


def _kind_of(line: str) -> str | None:
    """Return the status or code, and the message, of an error line."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    error, response = parsed.get("error"), parsed.get("response")
    if isinstance(error, dict):
        code = error.get("code")
        return None if code in _NEVER_RAN else _shown(f"{code}: {error.get('message')}")
    if isinstance(response, dict):
        return _shown(f"HTTP {response.get('status_code')}: {_message_in(response.get('body'))}")
    return None


def _message_in(body: object) -> str:
    """Return the message in the body of a model server's error; a body of unknown shape becomes JSON."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            inner = next((inner[key] for key in ("message", "detail") if isinstance(inner.get(key), str)), inner)
        body = inner
    return body if isinstance(body, str) else json.dumps(body)


def _shown(text: str) -> str:
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
