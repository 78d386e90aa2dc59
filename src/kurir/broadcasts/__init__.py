"""Broadcasts: one content to one or many people."""
