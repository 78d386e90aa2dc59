"""Imports of people from CSV and Excel files; start reading at `importing`."""
