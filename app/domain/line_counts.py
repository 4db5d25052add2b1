"""Counts of a line: the texts in an embeddings line, and an estimate of the tokens that a line will use."""

from collections.abc import Iterable

from msgspec import UNSET, Raw, UnsetType

# A rough mean over languages and tokenizers.
_BYTES_PER_TOKEN = 4
# As much as a plan's entry holds.
_MAX_TOKENS = 2**32 - 1
_MAX_TOKENS_DIGITS = 10


def estimate_tokens(line_bytes: int, limits: Iterable[Raw | UnsetType]) -> int:
    """Return about as many tokens as a line will use: its own, and the most that the line asks for.

    Args:
        line_bytes: the length of the line.
        limits: the fields that may limit the answer; the first number counts.
    """
    return min(line_bytes // _BYTES_PER_TOKEN + _first_number(limits), _MAX_TOKENS)


def count_inputs(given: Raw | UnsetType) -> int:
    """Return the number of texts in `input` of an embeddings line: strings, or lists of token numbers."""
    value = b"" if given is UNSET else bytes(given)
    if not value.startswith(b"["):
        return 1
    if value[1:].lstrip()[:1] == b'"':
        return value.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') // 2
    return max(1, value.count(b"[") - 1)


def _first_number(limits: Iterable[Raw | UnsetType]) -> int:
    for limit in limits:
        value = b"" if limit is UNSET else bytes(limit)
        if value.isdigit():
            return int(value) if len(value) <= _MAX_TOKENS_DIGITS else _MAX_TOKENS
    return 0
