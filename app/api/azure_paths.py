"""Azure's paths, served as OpenAI's: `/openai/files?api-version=…` is `/v1/files`."""

import re
from collections.abc import Iterable
from typing import Any

# Clients of Azure's classic API, with a deployment or without, and of its v1. Which deployment makes no difference:
# files and batches belong to none, and each line names its model.
_PATH = re.compile(r"/openai(?:/deployments/[^/]+)?(?:/v1)?(/(?:files|batches|models)(?:/.*)?)")


class AzurePaths:
    """A WSGI application that has each path of Azure's changed into OpenAI's for the application within."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["PATH_INFO"] = openai_path(environ.get("PATH_INFO", ""))
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def openai_path(path: str) -> str:
    """Return OpenAI's path for one of Azure's; any other path stays as it is."""
    match = _PATH.fullmatch(path)
    return f"/v1{match[1]}" if match else path
