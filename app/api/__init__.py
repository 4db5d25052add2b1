"""The HTTP API: bytes in, use case, bytes out."""

from pathlib import Path

from flask import Flask

from app.api.application import build_app
from app.config import Process, Settings, leave_out_foreign
from app.wiring.logs import warn_of_foreign
from app.wiring.parent import end_with_parent
from app.wiring.privacy import keep_private
from app.wiring.start import await_start, ending_plainly, settings_of_start
from app.wiring.web import build_api

keep_private()


def create_app() -> Flask:
    """Build the app from the environment; gunicorn calls `create_app` in every worker process."""
    # A killed gunicorn arbiter can't end its processes, and the processes would hold the port.
    end_with_parent()
    # Celery, which publishes the API's tasks, and libpq read the environment by themselves.
    foreign = leave_out_foreign()
    settings = settings_of_start(Process.WEB)
    warn_of_foreign(foreign)
    with ending_plainly():
        await_start(settings)
        web = build_api(settings)
        app = build_app(web)
    app.config["AT_STOP"] = web.stop
    app.config["GATHERING_FOLDER"] = _gathering_folder(settings)
    return app


def _gathering_folder(settings: Settings) -> Path | None:
    """Return the folder for large bodies until they are whole; None means the system's temporary folder."""
    # The system's temporary folder is often in memory.
    return next((folder for folder in (settings.data / "run", settings.data) if folder.is_dir()), None)
