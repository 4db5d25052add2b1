"""Texts of callers and model servers, made fit for a column: no content of a line or answer may end a transaction."""

from app.domain.limits import MAX_MODEL_CHARS

# Models whose names can't be stored are counted together, under this name.
OTHER_MODELS = "other"


def fit_text(text: str) -> str:
    """Return a text that each database stores, with substitutes for NULs and for halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def fit_model(model: str) -> str | None:
    """Return the name of a model; None for a name that no column or no index can hold.

    The check of an input refuses these names, but inputs may have been checked by an older version. PostgreSQL takes at
    most 2,704 bytes in an index, and a character has up to four bytes.
    """
    return model if len(model) <= MAX_MODEL_CHARS and fit_text(model) == model else None
