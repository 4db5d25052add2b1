"""Reads and checks a variable; SettingInvalid names the fault."""

import re

from environs import Env

from app.domain.errors import SettingInvalid
from app.domain.limits import MAX_LINES

PREFIX = "WYLON_"
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[a-z0-9.\[\]:_-]+")


def invalid(name: str, message: str) -> SettingInvalid:
    """Return the error of a variable, given the name without the prefix."""
    return SettingInvalid(f"{PREFIX}{name}: {message}.")


def number(env: Env, name: str, default: int, *, low: int, high: int) -> int:
    """Read a whole number between two bounds."""
    value = env.int(name, default)
    if not low <= value <= high:
        raise invalid(name, f"{value} is not between {low} and {high}")
    return value


def seconds(env: Env, name: str, default: float, *, low: float = 0.001, high: float = 86_400.0) -> float:
    """Read a number of seconds between two bounds."""
    text = env.str(name, str(default))
    try:
        value = float(text)
    except ValueError:
        raise invalid(name, f"{text!r} is no number of seconds") from None
    # `nan` is never between two numbers.
    if not low <= value <= high:
        raise invalid(name, f"{value:g} is not between {low:g} and {high:g} seconds")
    return value


def decimal(env: Env, name: str, default: float, *, low: float, high: float) -> float:
    """Read a number between two bounds."""
    text = env.str(name, str(default))
    try:
        value = float(text)
    except ValueError:
        raise invalid(name, f"{text!r} is no number") from None
    # `nan` is never between two numbers.
    if not low <= value <= high:
        raise invalid(name, f"{value:g} is not between {low:g} and {high:g}")
    return value


def switch(env: Env, name: str, default: str) -> bool:
    """Read `on` or `off`."""
    value = env.str(name, default).lower()
    if value not in ("on", "off"):
        raise invalid(name, f"{value!r} is neither on nor off")
    return bool(value == "on")


def words(env: Env, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a comma-separated list."""
    values = tuple(word.strip() for word in env.str(name, ",".join(default)).split(",") if word.strip())
    if not values:
        raise invalid(name, "the list is empty: give one or more values with commas between them")
    return values


def origins(env: Env, name: str) -> tuple[str, ...]:
    """Read comma-separated origins of web pages, as sent by a browser; empty if the variable is not given."""
    found = tuple(word.strip() for word in env.str(name, "").split(",") if word.strip())
    for origin in found:
        if not _ORIGIN.fullmatch(origin):
            raise invalid(name, f"{origin!r} is no origin: it must be * or such as https://example.com, without a path")
    return found


def header_text(env: Env, name: str) -> str | None:
    """Read text for a header; None if the variable is not given."""
    value: str | None = env.str(name, None) or None
    if value is not None and (unfit := unfit_for_header(value)):
        raise invalid(name, unfit)
    return value


def unfit_for_header(value: str) -> str | None:
    """Return why a header can't carry the value; None if a header can."""
    if not (value.isascii() and value.isprintable()):
        return "it has characters that no header can carry"
    if value != value.strip():
        return "it starts or ends with a space, which no header keeps"
    return None


def weights(env: Env, name: str) -> dict[str, float]:
    """Read weights such as `acme=3,other=1`."""
    found = {}
    for part in (word.strip() for word in env.str(name, "").split(",") if word.strip()):
        tenant, equals, text = part.partition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = 0.0
        if not (tenant and equals and 0.01 <= weight <= 1_000):
            raise invalid(name, f"{part!r} must be TENANT=WEIGHT with a weight from 0.01 to 1000")
        found[tenant] = weight
    return found


def lines_per_task(env: Env) -> int | None:
    """Read the number of lines in a task; None is auto."""
    value = env.str("LINES_PER_TASK", "auto")
    if value == "auto":
        return None
    if not value.isdecimal() or not 1 <= int(value) <= MAX_LINES:
        raise invalid("LINES_PER_TASK", f"{value!r} is neither auto nor a number from 1 to {MAX_LINES}")
    return int(value)


def log_level(env: Env) -> str:
    """Read the lowest level that is logged."""
    value = env.str("LOG_LEVEL", "info").lower()
    if value not in {"debug", "info", "warning", "error"}:
        raise invalid("LOG_LEVEL", f"{value!r} is none of debug, info, warning, error")
    return value
