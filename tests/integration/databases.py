"""Runs a module on one database, or on both: all of its tests on one before those on the other."""

import pytest

on_sqlite = pytest.mark.parametrize("module_database", ["sqlite"], indirect=True)
on_each_database = pytest.mark.parametrize("module_database", ["sqlite", "postgresql"], indirect=True)
