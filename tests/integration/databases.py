"""Runs a module on both databases, all of its tests on one before those on the other."""

import pytest

on_each_database = pytest.mark.parametrize("module_database", ["sqlite", "postgresql"], indirect=True)
