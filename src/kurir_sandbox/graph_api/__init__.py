"""The Cloud API: a Graph-compatible HTTP API for official numbers, with signed callbacks."""
