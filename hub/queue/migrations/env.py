"""How Alembic runs these migrations: on the connection that hub.queue.upgrade gives, in its transaction."""

from __future__ import annotations

from alembic import context

from hub.queue.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
