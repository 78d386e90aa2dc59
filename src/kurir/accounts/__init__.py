"""Accounts (tenants), their API keys, their members, and the limits on what they may ask."""
