"""What alembic runs to migrate over the connection that it is given."""

from alembic import context

from app.adapters.db.tables import metadata

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Two processes that start at once migrate one after the other; any constant of our own will do.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(829471160537)")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
