"""Accounts (tenants), their API keys, their members, and their rate limits."""
