"""Webhooks to customers: what happened is told to their servers, at least once, in order per chat, signed.

`events` makes the bodies (pure), `endpoints` keeps where they go, `deliveries` keeps what must still be told, written
in the same transaction as the change itself; `schedule` says when to try again (pure), `deliver` does it; `history` is
what was told, for a look and a replay.
"""
