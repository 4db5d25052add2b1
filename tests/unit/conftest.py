"""What all unit tests have in common."""

import pytest
import structlog


@pytest.fixture(autouse=True)
def _loggers_are_made_anew() -> None:
    """Have a test find what is logged, though an earlier one logged by another configuration."""
    structlog.configure(cache_logger_on_first_use=False)
