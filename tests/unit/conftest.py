"""What all unit tests have in common."""

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs_are_as_at_first() -> None:
    """Have a test find what is logged, though an earlier test chose another configuration."""
    structlog.reset_defaults()
