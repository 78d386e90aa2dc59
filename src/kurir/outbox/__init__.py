"""Durable sending in three verbs: accept, claim, record. There is no second way to send."""
