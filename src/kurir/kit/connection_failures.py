"""Maps failures of connections to reasons.

A client library's text is English and names hosts and ports of the gateway's own network: it is for the log only.
"""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
import msgspec

from kurir.reasons import Code, Reason
from kurir.reasons import failures as reasons

_KINDS: tuple[tuple[type[BaseException], Code], ...] = (
    (TimeoutError, reasons.TIMED_OUT),
    (aiohttp.ClientConnectorDNSError, reasons.NAME),
    (socket.gaierror, reasons.NAME),
    (aiohttp.ClientSSLError, reasons.TLS),
    (aiohttp.ServerFingerprintMismatch, reasons.TLS),
    (ssl.SSLError, reasons.TLS),
    (ssl.CertificateError, reasons.TLS),
    (aiohttp.ServerDisconnectedError, reasons.CLOSED),
    (aiohttp.ClientPayloadError, reasons.CLOSED),
    (ConnectionResetError, reasons.CLOSED),
    (ConnectionAbortedError, reasons.CLOSED),
    (BrokenPipeError, reasons.CLOSED),
    (ConnectionRefusedError, reasons.REFUSED),
    (aiohttp.ClientResponseError, reasons.UNREADABLE),
    (msgspec.MsgspecError, reasons.UNREADABLE),
    (ValueError, reasons.UNREADABLE),
)
"""The first matching class applies, to the error itself and then to what caused it."""
_NUMBERS: dict[int | None, Code] = {
    errno.ECONNREFUSED: reasons.REFUSED,
    errno.ENETUNREACH: reasons.NETWORK,
    errno.EHOSTUNREACH: reasons.NETWORK,
    errno.ENETDOWN: reasons.NETWORK,
    errno.EHOSTDOWN: reasons.NETWORK,
    errno.EADDRNOTAVAIL: reasons.NETWORK,
    errno.ETIMEDOUT: reasons.TIMED_OUT,
    errno.ECONNRESET: reasons.CLOSED,
    errno.ECONNABORTED: reasons.CLOSED,
    errno.EPIPE: reasons.CLOSED,
}


def connection_failure(error: BaseException) -> Reason:
    """Why a connection failed or ended; of a client library's error also what the system reported to it."""
    if isinstance(error, aiohttp.ClientResponseError) and error.__cause__ is None:
        return reasons.STATUS(status=error.status)
    for kind, code in _KINDS:
        if isinstance(error, kind):
            return code()
    if isinstance(error, OSError) and (code := _NUMBERS.get(error.errno)):
        return code()
    cause = getattr(error, "os_error", None) or error.__cause__
    return connection_failure(cause) if isinstance(cause, OSError) and cause is not error else reasons.NO_CONNECTION()
