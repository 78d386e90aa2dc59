"""Why something is as it is: codes with parameters, and one table of their sentences in Indonesian and English.

Every layer hands on a `Reason`; only what speaks to people (web, webhooks, command line) asks for its `sentence`.
"""

from kurir.reasons.error import ReasonedError
from kurir.reasons.reason import NOTHING, Code, Reason, as_written, read, stored
from kurir.reasons.table import sentence

__all__ = ["NOTHING", "Code", "Reason", "ReasonedError", "as_written", "read", "sentence", "stored"]
