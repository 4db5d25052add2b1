"""The HTTP API: bytes in, use case, bytes out."""

from flask import Flask

from app.api.application import build_app
from app.config import Process, load_settings
from app.wiring.logs import set_up_logs
from app.wiring.parent import end_with_parent
from app.wiring.start import await_start
from app.wiring.web import build_api


def create_app() -> Flask:
    """Build the app from the environment; gunicorn calls this in each of its processes."""
    # A killed arbiter can't end its processes, which would hold the port.
    end_with_parent()
    settings = load_settings(process=Process.WEB)
    set_up_logs(settings)
    try:
        await_start(settings)
    except SystemExit:
        # gunicorn starts a process again that ends so, and itself ends with one that fails as this does.
        raise RuntimeError("This process can't start: the log says what it waited for.") from None
    return build_app(build_api(settings))
