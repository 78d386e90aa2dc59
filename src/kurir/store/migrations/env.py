"""How alembic runs here: on the connection that `migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=context.config.attributes["stepped"],
)
with context.begin_transaction():
    context.run_migrations()
