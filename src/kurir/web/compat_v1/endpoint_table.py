"""All endpoints of the compatible API, in the order of the reference collection."""

from __future__ import annotations

from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoints import (
    contacts,
    conversations,
    device_lists,
    device_sending,
    general,
    otp,
    templates,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *general.ENDPOINTS,
    *contacts.ENDPOINTS,
    *device_sending.ENDPOINTS,
    *device_lists.ENDPOINTS,
    *otp.ENDPOINTS,
    *templates.ENDPOINTS,
    *conversations.ENDPOINTS,
)
