"""The official client's types as an oracle: what we send has their keys, all of them and no others."""

from typing import Any, get_args

from pydantic import BaseModel


def check_shape(model: type[BaseModel], value: dict[str, Any]) -> None:
    """Fail where `value`, or an object inside it, is not exactly as the client's type has it."""
    parsed = model.model_validate(value, strict=True)
    assert set(value) == set(model.model_fields), model.__name__
    for name in model.model_fields:
        _check_inner(getattr(parsed, name), value[name])


def _check_inner(parsed: object, value: Any) -> None:
    if isinstance(parsed, BaseModel):
        check_shape(type(parsed), value)
    elif isinstance(parsed, list):
        for one, raw in zip(parsed, value, strict=True):
            _check_inner(one, raw)


def statuses(model: type[BaseModel]) -> set[str]:
    """Return the values that the client's type allows for `status`."""
    return set(get_args(model.model_fields["status"].annotation))


def error_of(response: Any, status: int) -> dict[str, Any]:
    """Return the error inside the envelope, which has all four keys."""
    assert response.status_code == status, response.data
    assert set(response.json) == {"error"}
    error: dict[str, Any] = response.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert response.headers["x-request-id"].startswith("req_")
    return error
