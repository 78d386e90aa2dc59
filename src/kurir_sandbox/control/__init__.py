"""The control API: what tests and people do to the sandbox, and see of it."""
