"""The database: one writer with group commit, readers, SQLite and PostgreSQL, migrations and backups. No tables of features."""
