"""Outgoing pictures and files: fetched from their URLs, inspected in a separate process, kept until sent."""
