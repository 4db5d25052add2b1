"""Files in the database."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Row,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from app.adapters.db.engine import reading, writing
from app.adapters.db.key_store import store_claim
from app.adapters.db.tables import batches, files
from app.domain.errors import NotFound
from app.domain.file import File
from app.domain.lifecycle import ACTIVE
from app.services.ports import Claim

# The columns of a file, in the order of the fields of `File`.
_OF_FILE = tuple(files.c[field.name] for field in fields(File))


def _is_there(now: "float | BindParameter[float]") -> ColumnElement[bool]:
    return and_(files.c.deleted_at.is_(None), or_(files.c.expires_at.is_(None), files.c.expires_at > now))


# Built once: building a statement costs more than running it.
_ADD = insert(files)
_GET = select(files).where(
    files.c.id == bindparam("file_id"), files.c.tenant_id == bindparam("of_tenant"), _is_there(bindparam("now"))
)
_HOLD = _GET.with_only_columns(files.c.id).with_for_update(read=True)


class SqlFileStore:
    """`FileStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, file: File, claim: Claim | None = None) -> None:
        with writing(self._engine) as connection:
            if claim is not None:
                store_claim(connection, file.tenant_id, claim, file.id, file.created_at)
            add_file(connection, file)

    def get(self, tenant_id: str, file_id: str, now: float) -> File | None:
        with reading(self._engine) as connection:
            given = {"file_id": file_id, "of_tenant": tenant_id, "now": now}
            row = connection.execute(_GET, given).one_or_none()
            return None if row is None else _file(row)

    def page(
        self, tenant_id: str, now: float, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        query = select(*_OF_FILE).where(files.c.tenant_id == tenant_id, _is_there(now)).limit(limit)
        query = query.order_by(files.c.seq.desc() if newest_first else files.c.seq)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        with reading(self._engine) as connection:
            if after is not None:
                # A deleted file still marks a place in the list: a caller that deletes while listing can page on.
                seq = connection.scalar(select(files.c.seq).where(files.c.id == after, files.c.tenant_id == tenant_id))
                if seq is None:
                    raise NotFound(f"No such File object: {after}", param="after")
                query = query.where(files.c.seq < seq if newest_first else files.c.seq > seq)
            # A page may have 10,000 rows: reading columns by position takes a third of the time.
            return [File(*row) for row in connection.execute(query)]

    def mark_deleted(self, tenant_id: str, file_id: str, now: float) -> bool:
        with writing(self._engine) as connection:
            marked = connection.execute(
                update(files)
                .where(files.c.id == file_id, files.c.tenant_id == tenant_id, _is_there(now))
                .values(deleted_at=now)
            )
            return marked.rowcount == 1

    def removable(self, now: float, limit: int) -> list[File]:
        self._hide_expired(now, limit)
        is_read = select(batches.c.id).where(batches.c.input_blob == files.c.blob, _is_active()).exists()
        query = select(files).where(files.c.deleted_at.is_not(None), ~is_read)
        # By the index of `deleted_at`: in order of creation, the query would read every file.
        query = query.order_by(files.c.deleted_at).limit(limit)
        with reading(self._engine) as connection:
            return [_file(row) for row in connection.execute(query)]

    def _hide_expired(self, now: float, limit: int) -> None:
        """Mark expired files as deleted.

        The update waits for a transaction that creates a batch from such a file, by a clock behind this process's
        clock. So every batch that reads a marked file is visible.
        """
        # With plain `deleted_at`, SQLite would use the index of `deleted_at` and read every file not yet deleted.
        is_expired = and_((files.c.deleted_at + 0).is_(None), files.c.expires_at <= now)
        with reading(self._engine) as connection:
            found = connection.scalars(select(files.c.id).where(is_expired).limit(limit)).all()
        if found:
            with writing(self._engine) as connection:
                connection.execute(update(files).where(files.c.id.in_(found), is_expired).values(deleted_at=now))

    def remove(self, file_id: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(files).where(files.c.id == file_id))

    def blobs(self, keys: Sequence[str]) -> set[str]:
        is_planned = and_(batches.c.plan_blob.in_(keys), _is_active())
        with reading(self._engine) as connection:
            owned = set(connection.scalars(select(files.c.blob).where(files.c.blob.in_(keys))))
            return owned | set(connection.scalars(select(batches.c.plan_blob).where(is_planned)))

    def some_blobs(self, limit: int) -> list[str]:
        """Return the blobs of the newest and of the oldest files."""
        with reading(self._engine) as connection:
            return [
                blob
                for order in (files.c.seq.desc(), files.c.seq)
                for blob in connection.scalars(select(files.c.blob).order_by(order).limit(limit))
            ]


def add_file(connection: Connection, file: File) -> None:
    """Insert the row of a file in a larger transaction."""
    connection.execute(_ADD, asdict(file))


def hold_file(connection: Connection, tenant_id: str, file_id: str, now: float) -> None:
    """Keep a file from being deleted until the transaction ends; raises NotFound for a missing file."""
    given = {"file_id": file_id, "of_tenant": tenant_id, "now": now}
    if connection.scalar(_HOLD, given) is None:
        raise NotFound(f"No such File object: {file_id}", param="input_file_id")


def _is_active() -> ColumnElement[bool]:
    return batches.c.status.in_(sorted(ACTIVE))


def _file(row: Row[Any]) -> File:
    return File(
        id=row.id,
        tenant_id=row.tenant_id,
        purpose=row.purpose,
        filename=row.filename,
        bytes=row.bytes,
        blob=row.blob,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
