"""/v1/batches."""

from typing import Any

from flask import request

from app.api.context import api_key_id, services, tenant_id
from app.api.routes import IDEMPOTENCY_KEY, Routes, Takes
from app.api.schemas import BatchesQuerySchema, BatchListSchema, BatchRequestSchema, BatchSchema
from app.domain.batch import Batch
from app.services.batches import BatchPage, BatchRequest

routes = Routes("batches", "Many requests as one file, done within a window.")


@routes.add(
    "POST",
    "/v1/batches",
    answer=BatchSchema,
    status=201,
    takes=Takes(json=BatchRequestSchema, headers=[IDEMPOTENCY_KEY]),
    refuses=[400, 404, 409, 413, 503],
)
def create_batch(body: dict[str, Any]) -> Batch:
    """Create a batch from an uploaded file."""
    expires_after = body.pop("output_expires_after") or {}
    return services().batches.create(
        tenant_id(),
        BatchRequest(**body, output_lifetime_s=expires_after.get("seconds"), api_key_id=api_key_id()),
        idempotency_key=request.headers.get("Idempotency-Key"),
    )


@routes.add("GET", "/v1/batches", answer=BatchListSchema, takes=Takes(query=BatchesQuerySchema), refuses=[400, 404])
def list_batches(query: dict[str, Any]) -> BatchPage:
    """List batches, the newest first."""
    return services().batches.page(tenant_id(), after=query["after"] or None, limit=query["limit"])


@routes.add("GET", "/v1/batches/<batch_id>", answer=BatchSchema, refuses=[404])
def get_batch(batch_id: str) -> Batch:
    """Retrieve a batch, with its counts as they are now."""
    return services().batches.get(tenant_id(), batch_id)


@routes.add("POST", "/v1/batches/<batch_id>/cancel", answer=BatchSchema, refuses=[404, 409])
def cancel_batch(batch_id: str) -> Batch:
    """Cancel a batch; what is done by then stays available in its files."""
    return services().batches.cancel(tenant_id(), batch_id)
