"""The model that a checked line names."""

import msgspec
from msgspec import Raw, Struct

from app.domain.surrogates import without_surrogates


class _Body(Struct, gc=False):
    model: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def read_model(body: Raw) -> str | None:
    """Return the model of the body of a line that `check_line` accepted; None if the body names no model."""
    try:
        return _decoder.decode(body).model or None
    except msgspec.DecodeError:
        return _decoder.decode(without_surrogates(bytes(body))).model or None
