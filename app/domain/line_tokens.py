"""An estimate of the tokens that a line will use, made before the line runs."""

from collections.abc import Iterable

from msgspec import UNSET, Raw, UnsetType

# A rough mean over languages and tokenizers.
_BYTES_PER_TOKEN = 4
# As much as a plan's entry holds.
_MAX_TOKENS = 2**32 - 1
_MAX_DIGITS = 10


def estimate_tokens(line_bytes: int, limits: Iterable[Raw | UnsetType]) -> int:
    """Return the tokens of a line of this length, and of the answer that the first number in `limits` allows."""
    numbers = (bytes(limit) for limit in limits if limit is not UNSET)
    number = next((each for each in numbers if each.isdigit()), b"0")
    requested = int(number) if len(number) <= _MAX_DIGITS else _MAX_TOKENS
    return min(line_bytes // _BYTES_PER_TOKEN + requested, _MAX_TOKENS)
