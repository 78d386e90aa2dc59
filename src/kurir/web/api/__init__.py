"""Our own API for the operator of this gateway, under `/api/v1`."""

from kurir.web.api.numbers import routes

__all__ = ["routes"]
