"""Sender numbers: linked devices and official numbers, their owner and their state."""
