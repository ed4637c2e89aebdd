"""Alembic's entry: runs on the connection that `orderrelay_workers.ledger.migrate` hands over."""

from alembic import context

from orderrelay_workers.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=False)
context.run_migrations()
