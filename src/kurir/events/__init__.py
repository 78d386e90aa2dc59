"""The event log: what happens to an account, appended once in the transaction of the change, read by everybody else."""
