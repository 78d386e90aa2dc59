"""Our own API for the operator of this gateway, under `/api/v1`."""
