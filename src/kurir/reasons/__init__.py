"""Reasons: codes with parameters, and one table of their sentences in Indonesian and English.

Every layer passes on a `Reason`; only the interfaces (web, webhooks, command line) ask for its `sentence`.
"""

from kurir.reasons.error import ReasonedError
from kurir.reasons.reason import NOTHING, Code, Reason, as_written, read, stored
from kurir.reasons.table import sentence

__all__ = ["NOTHING", "Code", "Reason", "ReasonedError", "as_written", "read", "sentence", "stored"]
