"""For all tests: property tests draw the same examples everywhere, so that a red run is a real change.

`KURIR_PROPERTIES=explore` draws new ones; what it finds is kept as an example in the test.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("KURIR_PROPERTIES", "steady"))
