"""Runs the revisions on the connection that :mod:`engine.catalog.workspace` hands over, inside its transaction."""

from alembic import context

from engine.catalog.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
