"""Dispatch: sends messages from the outbox to a channel, in one lane per sender number."""
