"""The identity of the deployment and of its storage, in the row made by the first migration of the database."""

from functools import cached_property

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import ProgrammingError

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import deployment
from app.domain.errors import Unavailable


class SqlDeployment:
    """The single row of the table `deployment`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @cached_property
    def id(self) -> str:
        """The deployment's id, read once per process; Unavailable where the database does not answer or has no id."""
        try:
            with reading(self._engine) as connection:
                found: str | None = connection.scalar(select(deployment.c.id))
        except ProgrammingError:
            # PostgreSQL's error for a missing table.
            found = None
        if found is None:
            raise Unavailable("The database has no deployment id: run `wylon migrate`.")
        return str(found)

    def claim_secret(self, check: str) -> bool:
        """Note a check value of the secret unless a value is noted; return whether the noted value equals `check`."""
        with writing(self._engine) as connection:
            connection.execute(update(deployment).where(deployment.c.secret_check.is_(None)).values(secret_check=check))
            return bool(connection.scalar(select(deployment.c.secret_check)) == check)

    def secret_check(self) -> str | None:
        """Return the check value of the deployment's secret, or None before a secret was made."""
        with reading(self._engine) as connection:
            found: str | None = connection.scalar(select(deployment.c.secret_check))
        return found

    @cached_property
    def storage(self) -> str:
        """The id in the marker of the storage, read once per process; Unavailable before a storage was marked."""
        found = self.find_storage()
        if found is None:
            raise Unavailable("No storage is marked as that of this database yet: run `wylon migrate`.")
        return found

    def find_storage(self) -> str | None:
        """Return the id in the marker of the storage, or None before a storage was marked."""
        with reading(self._engine) as connection:
            found: str | None = connection.scalar(select(deployment.c.storage))
        return found

    def note_storage(self, storage_id: str) -> None:
        """Note the id in the marker of the storage, unless an id is noted."""
        with writing(self._engine) as connection:
            connection.execute(update(deployment).where(deployment.c.storage.is_(None)).values(storage=storage_id))
