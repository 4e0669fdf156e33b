"""Run by Alembic: migrates the database of the connection that `database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from forwardinf.review.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
