"""Webhooks to customers: events are delivered to their servers at least once, in order per chat, signed.

`endpoints` stores where events go, `fan_out` turns the event log into deliveries, `deliveries` stores these with their
tries; `schedule` says when to try again (pure), `deliver` does it; `history` lists and replays past deliveries.
"""
