"""Shared by all HTTP interfaces: connection limits, allowed hosts, bodies."""
