"""The database: one writer with group commit, readers, SQLite and PostgreSQL, migrations, backups."""
