"""A WhatsApp that fits in one process: people, phones, the WhatsApp Web wire and a Graph-compatible API.

It is a program of its own. It imports nothing of the gateway, keeps its own databases, and records what truly reached a
phone.
"""
