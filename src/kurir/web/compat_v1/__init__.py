"""The compatible front door, `/public/v1/…`: one module per chapter of the reference collection."""
