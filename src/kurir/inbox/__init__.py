"""Stores what both channels receive, and acts on it after the commit. Read `inbox` first."""

from kurir.inbox.inbox import Inbox
from kurir.inbox.quarantine_entries import event_of
from kurir.inbox.service_windows import WINDOW, window_open_until

__all__ = ["WINDOW", "Inbox", "event_of", "window_open_until"]
