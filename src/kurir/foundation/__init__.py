"""What every part stands on: the database, safe fetching, sealing, telemetry, the clock."""
