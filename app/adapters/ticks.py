"""The last tick that control took from beat, in Redis: a value that changes with each, and says nothing of time."""

from typing import cast

import redis

from app.domain import ids

_KEY = "wylon:ticked"


class RedisTicks:
    """Notes ticks, and lets others see that they go on."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def note(self) -> None:
        """Say that a tick was taken and done."""
        self._redis.set(_KEY, ids.new_token())

    def last(self) -> bytes | None:
        """Return what tells the last tick from all others; None where the broker knows of none."""
        return cast("bytes | None", self._redis.get(_KEY))
