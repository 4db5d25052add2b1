"""Settings, and the only reader of the environment.

A setting is a variable `WYLON_…`, named as the field in upper case; `docs/settings.md` has the table of settings.
Several upstreams are in a file, `wylon.toml`.
"""

from app.config.addresses import database_path
from app.config.foreign import foreign_variables, foreign_warnings, leave_out_foreign
from app.config.process import Process
from app.config.settings import DEFAULT_ENDPOINTS, VARIABLES, Settings, load_settings, unknown_variables
from app.config.values import PREFIX

__all__ = [
    "DEFAULT_ENDPOINTS",
    "PREFIX",
    "VARIABLES",
    "Process",
    "Settings",
    "database_path",
    "foreign_variables",
    "foreign_warnings",
    "leave_out_foreign",
    "load_settings",
    "unknown_variables",
]
