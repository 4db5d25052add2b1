"""The options by which a client command finds the API."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from app.cli.client.api_client import ApiClient, ApiError, Connection, KeyRefused
from app.cli.up.run_folder import read_kept_key
from app.config.addresses import given_path
from app.config.values import unfit_for_header
from app.domain.errors import SettingInvalid

DEFAULT_BASE_URL = "http://127.0.0.1:8080/v1"


def talks_to_api(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, and call the command with an ApiClient as its first argument."""

    @click.option(
        "--base-url",
        envvar="WYLON_BASE_URL",
        show_envvar=True,
        default=DEFAULT_BASE_URL,
        show_default=True,
        metavar="URL",
        help="Where the API is.",
    )
    @click.option(
        "--api-key",
        envvar="WYLON_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="The key to send; by default the one that the folder of --data keeps.",
    )
    @click.option(
        "--data",
        envvar="WYLON_DATA",
        show_envvar=True,
        default="wylon-data",
        show_default=True,
        metavar="DIR",
        help="The folder of `wylon up`.",
    )
    @wraps(command)
    def connected(*args: Any, base_url: str, api_key: str | None, data: str, **kwargs: Any) -> None:
        key = api_key or _kept_key(data)
        if key is None:
            raise click.UsageError(
                f"No API key: give --api-key, set WYLON_API_KEY, or name the folder of `wylon up` by --data; "
                f"{data} keeps none."
            )
        if unfit := unfit_for_header(key):
            raise click.UsageError(f"The API key can't be used: {unfit}.")
        with ApiClient(Connection(base_url, key)) as client:
            try:
                command(client, *args, **kwargs)
            except KeyRefused as fault:
                raise ApiError(f"{fault.message} {_where_to_look(data, is_given=bool(api_key))}") from None

    return connected


def _kept_key(data: str) -> str | None:
    try:
        return read_kept_key(given_path("DATA", data))
    except SettingInvalid as fault:
        raise click.UsageError(str(fault)) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise click.UsageError(
            f"The key in {data} can't be read: {fault}. Give --api-key, or correct --data."
        ) from None


def _where_to_look(data: str, *, is_given: bool) -> str:
    if is_given:
        return "The key was given by --api-key or WYLON_API_KEY: `wylon keys list` shows the keys that are in use."
    return (
        f"The key is the one that {data} keeps: if `wylon up` was started with another WYLON_API_KEY, give that key "
        "here too, by --api-key or WYLON_API_KEY."
    )
