"""The HTTP interfaces: the compatible API, the operator API, Meta's callbacks, health, pages."""
