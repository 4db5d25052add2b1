"""A file that a caller uploaded or that a batch wrote."""

from dataclasses import dataclass

PURPOSE_BATCH = "batch"
PURPOSE_BATCH_OUTPUT = "batch_output"
UPLOAD_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


@dataclass(frozen=True, slots=True)
class File:
    """A file; its bytes are the blob `blob`. Instants are seconds since 1970, UTC."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    bytes: int
    blob: str
    created_at: float
    expires_at: float | None = None
