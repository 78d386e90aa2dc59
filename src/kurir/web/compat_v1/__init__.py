"""The compatible front door, `/public/v1/…`: one module per section of the reference collection."""
