"""The doors: the compatible API, our own API, Meta's callbacks, health. They decode, ask the parts below, answer."""
