"""All endpoints of the compatible API, in the order of the reference collection."""

from __future__ import annotations

from kurir.web.public_v1 import general, grab, group, personal
from kurir.web.public_v1.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *general.ENDPOINTS,
    *group.ENDPOINTS,
    *personal.ENDPOINTS,
    *grab.ENDPOINTS,
)
