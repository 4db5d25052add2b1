"""The HTTP API: bytes in, use case, bytes out."""

from pathlib import Path

from flask import Flask

from app.api.application import build_app
from app.config import Process, Settings, leave_out_foreign, load_settings
from app.wiring.logs import set_up_logs, warn_of_foreign
from app.wiring.parent import end_with_parent
from app.wiring.privacy import keep_private
from app.wiring.start import await_start
from app.wiring.web import build_api

keep_private()


def create_app() -> Flask:
    """Build the app from the environment; gunicorn calls this in each of its processes."""
    # A killed arbiter can't end its processes, which would hold the port.
    end_with_parent()
    # Celery, which sends what the API asks for, reads the environment for itself.
    foreign = leave_out_foreign()
    settings = load_settings(process=Process.WEB)
    set_up_logs(settings)
    warn_of_foreign(foreign)
    try:
        await_start(settings)
    except SystemExit:
        # gunicorn starts a process again that ends so, and itself ends with one that fails as this does.
        raise RuntimeError("This process can't start: the log says what it waited for.") from None
    app = build_app(build_api(settings))
    app.config["GATHERING_FOLDER"] = _gathering_folder(settings)
    return app


def _gathering_folder(settings: Settings) -> Path | None:
    """Return where large bodies wait until they are whole; None is the system's own folder for such files."""
    # The system's is often in memory.
    return next((folder for folder in (settings.data / "run", settings.data) if folder.is_dir()), None)
