"""All endpoints of the compatible API, in the order of the reference collection."""

from __future__ import annotations

from kurir.web.public_v1 import contacts, conversations, general, grab, group, otp, personal, templates
from kurir.web.public_v1.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *general.ENDPOINTS,
    *contacts.ENDPOINTS,
    *group.ENDPOINTS,
    *personal.ENDPOINTS,
    *grab.ENDPOINTS,
    *otp.ENDPOINTS,
    *templates.ENDPOINTS,
    *conversations.ENDPOINTS,
)
