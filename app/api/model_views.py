"""/v1/models: the models of the upstreams."""

from flask import jsonify
from flask.typing import ResponseReturnValue

from app.api.context import services
from app.api.routes import Routes
from app.api.schemas import ModelListSchema, ModelSchema
from app.domain.errors import NotFound

routes = Routes("models", "The models that lines may ask for.")

# OpenAI's clients need the three fields, and some model servers omit them.
_DEFAULTS: dict[str, object] = {"object": "model", "created": 0, "owned_by": "upstream"}


@routes.add("GET", "/v1/models", answer=ModelListSchema, refuses=[503])
def list_models() -> ResponseReturnValue:
    """List the models that the upstreams serve."""
    # Not dumped by the schema: further fields from an upstream are passed on.
    return jsonify({"object": "list", "data": _models()})


@routes.add("GET", "/v1/models/<path:model_id>", answer=ModelSchema, refuses=[404, 503])
def get_model(model_id: str) -> ResponseReturnValue:
    """Retrieve one model."""
    for model in _models():
        if model["id"] == model_id:
            return jsonify(model)
    raise NotFound(f"The model '{model_id[:100]}' does not exist.", param="model", code="model_not_found")


def _models() -> list[dict[str, object]]:
    return [_DEFAULTS | model for model in services().catalog.models()]
