"""Carrying messages from the outbox to a channel: one lane per sender number."""
