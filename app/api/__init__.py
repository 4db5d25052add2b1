"""The HTTP API: bytes in, use case, bytes out."""

from flask import Flask

from app import wiring
from app.api.application import build_app
from app.config import load_settings


def create_app() -> Flask:
    """Build the app from the environment; gunicorn calls this in each of its processes."""
    settings = load_settings()
    wiring.set_up_logs(settings)
    return build_app(wiring.build_api(settings))
