"""What alembic runs to migrate: on the connection that it was handed, within the transaction that is open there."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
