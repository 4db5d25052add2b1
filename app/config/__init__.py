"""Settings, and the only reader of the environment.

Each is a variable `WYLON_…`, named as the field in upper case; `docs/settings.md` is the table of them.
"""

from app.config.settings import DEFAULT_ENDPOINTS, Settings, load_settings, unknown_variables
from app.config.values import PREFIX

__all__ = ["DEFAULT_ENDPOINTS", "PREFIX", "Settings", "load_settings", "unknown_variables"]
