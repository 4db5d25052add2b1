"""Build the Flask app."""

import re
from typing import Any

import structlog
from flask import Flask, Response, request
from flask_smorest import Api

from app.api import batch_views, file_views, health_views, model_views
from app.api.auth import require_key
from app.api.azure_paths import AzurePaths
from app.api.context import Services, attach, begin_request, elapsed_ms, request_id
from app.api.cors import add_cors
from app.api.docs_page import add_docs_page
from app.api.errors import register_errors
from app.api.schemas import ErrorSchema
from app.domain.ids import new_request_id
from app.domain.limits import MAX_METADATA_KEY_CHARS, MAX_METADATA_PAIRS, MAX_METADATA_VALUE_CHARS, MIB

log = structlog.get_logger()

# A batch's request is an id and sixteen short pairs; only uploads are larger, and have their own limit.
MAX_JSON_BODY_BYTES = MIB
# The version of OpenAI's API, for clients that read the header.
_OPENAI_VERSION = "2020-10-01"
# Keep a caller's request id only if a header and a log line can carry the id.
_REQUEST_ID = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")
_NO_NUL = r"^[^\u0000]*$"
_OPENAPI = {
    "API_TITLE": "wylon Batch API",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {"description": "OpenAI's Files and Batches APIs in front of the model servers you run yourself."},
        "security": [{"bearer": []}],
    },
}


class _Api(Api):  # type: ignore[misc]  # flask-smorest ships no types
    """flask-smorest with our errors instead of its own."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        """Leave the handlers to `register_errors`."""


def build_app(services: Services) -> Flask:
    """Build the app over the services."""
    app = Flask(__name__, static_folder=None)
    app.config.update(_OPENAPI, MAX_CONTENT_LENGTH=MAX_JSON_BODY_BYTES)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider, which this is
    # Answer a doubled slash with 404: clients would follow a redirect with another method.
    app.url_map.merge_slashes = False
    attach(app, services)
    register_errors(app)
    app.wsgi_app = AzurePaths(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation has it
    app.before_request(_begin)
    add_cors(app, services.cors_origins)
    app.before_request(require_key)
    app.after_request(_finish)
    api = _Api(app)
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    for views in (file_views, batch_views, model_views, health_views):
        api.register_blueprint(views.routes.blueprint)
    _describe_choices(api.spec, services)
    add_docs_page(app, api.spec.to_dict)
    return app


def _describe_choices(spec: Any, services: Services) -> None:
    """Add the supported values and the limits, which the schema can't hold, to a batch request's description."""
    given = spec.components.schemas["BatchRequest"]["properties"]
    given["endpoint"]["enum"] = [*services.endpoints]
    given["completion_window"]["enum"] = [*services.windows]
    # Marshmallow knows only limits of the whole field; the service checks the limits of pairs, and names the pair.
    given["metadata"] |= {
        "maxProperties": MAX_METADATA_PAIRS,
        "propertyNames": {"maxLength": MAX_METADATA_KEY_CHARS, "pattern": _NO_NUL},
        "additionalProperties": {"type": "string", "maxLength": MAX_METADATA_VALUE_CHARS, "pattern": _NO_NUL},
    }


def _begin() -> None:
    given = request.headers.get("x-request-id", "")
    begin_request(given if _REQUEST_ID.fullmatch(given) else new_request_id())


def _finish(response: Response) -> Response:
    elapsed = elapsed_ms()
    response.headers["x-request-id"] = request_id()
    response.headers["openai-version"] = _OPENAI_VERSION
    # A browser must not render bytes chosen by a caller, in a file or in an error message, as a page of ours.
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["openai-processing-ms"] = str(elapsed)
    log.info(
        "request.answered",
        method=request.method,
        path=request.path,
        status=response.status_code,
        elapsed_ms=elapsed,
        request_id=request_id(),
    )
    return response
