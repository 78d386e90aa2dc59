"""Kurir: a self-hosted WhatsApp gateway for linked devices and the official Cloud API."""

__version__ = "0.1.0"
