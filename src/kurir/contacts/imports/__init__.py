"""Importing people from CSV and Excel files; `importing` is where to begin."""
