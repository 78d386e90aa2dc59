"""The control API: one table of routes, which `GET /` returns as well."""

from __future__ import annotations

from aiohttp import web

from kurir_sandbox.control import devices, faults, files, messages, people, records, stanzas
from kurir_sandbox.control.bodies import SANDBOX, Handler, control_errors
from kurir_sandbox.sandbox import Sandbox

_LARGEST_BODY = 140 * 1024 * 1024  # a 100 MB document in base64

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/healthz", records.health),
    ("GET", "/people", people.list_people),
    ("POST", "/people", people.add_person),
    ("GET", "/people/{phone}/inbox", people.read_inbox),
    ("POST", "/people/{phone}/messages", messages.write_message),
    ("POST", "/people/{phone}/receipts", stanzas.send_receipt),
    ("POST", "/people/{phone}/calls", stanzas.call),
    ("POST", "/people/{phone}/read", people.read_chats),
    ("POST", "/people/{phone}/typing", people.type_message),
    ("GET", "/people/{phone}/activity", people.list_activity),
    ("GET", "/people/{phone}/aliases", people.list_aliases),
    ("POST", "/people/{phone}/aliases", people.set_alias),
    ("GET", "/people/{phone}/contacts", people.list_contacts),
    ("POST", "/people/{phone}/contacts", people.set_contact),
    ("POST", "/scan", devices.scan),
    ("GET", "/devices", devices.list_devices),
    ("GET", "/devices/{jid}/stanzas", stanzas.list_stanzas),
    ("POST", "/devices/{jid}/stanzas", stanzas.play_stanza),
    ("POST", "/devices/{jid}/notifications", stanzas.play_notification),
    ("POST", "/devices/{jid}/failure", stanzas.play_failure),
    ("POST", "/devices/{jid}/stream_error", stanzas.play_stream_error),
    ("POST", "/devices/{jid}/{act:unlink|drop|replace}", devices.change_device),
    ("POST", "/logins", devices.fail_logins),
    ("GET", "/groups", devices.list_groups),
    ("POST", "/groups", devices.add_group),
    ("POST", "/groups/{id}", devices.change_group),
    ("POST", "/groups/{id}/members", devices.change_members),
    ("GET", "/businesses", records.list_businesses),
    ("POST", "/businesses", records.add_business),
    ("GET", "/policy", records.read_policy),
    ("POST", "/policy", records.set_policy),
    ("GET", "/faults", faults.list_faults),
    ("POST", "/faults", faults.add_fault),
    ("DELETE", "/faults", faults.end_faults),
    ("DELETE", "/faults/{id:[0-9]{1,18}}", faults.end_fault),
    ("GET", "/ledger", records.read_ledger),
    ("POST", "/encrypted_media", messages.keep_media),
    ("GET", "/sent", messages.read_sent),
    ("GET", "/media/{sha256}", records.read_media),
    ("POST", "/reset", records.reset),
    ("GET", "/files/{name}", files.read_file),
)


def application(sandbox: Sandbox) -> web.Application:
    """The control API for `sandbox`, on `/`."""
    app = web.Application(middlewares=[control_errors], client_max_size=_LARGEST_BODY)
    app[SANDBOX] = sandbox
    app.router.add_get("/", index)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app


async def index(request: web.Request) -> web.Response:
    """The routes of this API, one line each."""
    listing = [
        {"method": method, "path": path, "does": (handler.__doc__ or "").strip().split("\n", 1)[0]}
        for method, path, handler in ROUTES
    ]
    return web.json_response({"name": "kurir_sandbox", "graph_api": "/graph", "routes": listing})
