"""Azure's paths, served as OpenAI's: `/openai/files?api-version=…` is `/v1/files`."""

import re
from collections.abc import Iterable
from typing import Any

# Paths of Azure's classic API, with or without a deployment, and of Azure's v1. The deployment is ignored: files and
# batches belong to no deployment, and every line names its model.
_PATH = re.compile(r"/openai(?:/deployments/[^/]+)?(?:/v1)?(/(?:files|batches|models)(?:/.*)?)")


class AzurePaths:
    """A WSGI middleware that changes Azure's paths into OpenAI's for the inner application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["PATH_INFO"] = openai_path(environ.get("PATH_INFO", ""))
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def openai_path(path: str) -> str:
    """Return OpenAI's path for a path of Azure's; other paths stay unchanged."""
    match = _PATH.fullmatch(path)
    return f"/v1{match[1]}" if match else path
