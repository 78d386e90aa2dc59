"""The compatible API, `/public/v1/…`: one module per section of the reference collection."""
