"""How alembic runs here: on the connection that `migrate` hands over."""

from alembic import context

from kurir.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=context.config.attributes["stepped"],
)
with context.begin_transaction():
    context.run_migrations()
