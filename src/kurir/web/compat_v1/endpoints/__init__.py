"""The endpoints of the compatible API, one module per section of the reference collection."""
