"""The event log: an account's events, appended in the transaction of the change and read by all other parts."""
