"""Runs a module on both databases; all tests on one share a deployment, so that one process runs them."""

import pytest


def on_each_database(module: str) -> pytest.MarkDecorator:
    """Return the mark that a module puts on its tests."""
    return pytest.mark.parametrize(
        "module_database",
        [pytest.param(name, marks=pytest.mark.xdist_group(f"{module}-{name}")) for name in ("sqlite", "postgresql")],
        indirect=True,
    )


def on_sqlite(module: str) -> pytest.MarkDecorator:
    """Return the mark of a module to which the database makes no difference."""
    return pytest.mark.parametrize(
        "module_database", [pytest.param("sqlite", marks=pytest.mark.xdist_group(f"{module}-sqlite"))], indirect=True
    )
