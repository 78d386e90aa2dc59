"""Section "Grabbing": the contacts and groups that a linked device knows."""

from __future__ import annotations

from typing import Any

from kurir.channels.linked_device.protocol import DeviceGroup
from kurir.messages.addresses import GROUP_SERVER
from kurir.reasons.sending import KIND_EXPECTED
from kurir.web.compat_v1.device_queries import asked
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, wrong
from kurir.web.gateway import Gateway

SECTION = "Grabbing"


async def grab(gateway: Gateway, call: Call) -> Answer:
    """`type:"contacts"` gives a list, `type:"group"` an object by group id."""
    match call.body.text("type", required=True, expected=KIND_EXPECTED).strip().lower():
        case "contacts" | "contact":
            return await _contacts(gateway, call)
        case "group" | "groups":
            return await _groups(gateway, call)
        case _:
            raise wrong("type", KIND_EXPECTED)


async def _contacts(gateway: Gateway, call: Call) -> Answer:
    contacts = await asked(gateway, call.number, gateway.services.devices.contacts(call.number))
    return Answer(
        {
            "code": "200",
            "message": f"Received ({len(contacts)}) Contacts",
            "type": "successfully",
            "data": [{"name": contact.name, "whatsapp_number": contact.phone} for contact in contacts],
        }
    )


async def _groups(gateway: Gateway, call: Call) -> Answer:
    groups = await asked(gateway, call.number, gateway.services.devices.groups(call.number))
    return Answer(
        {
            "code": "200",
            "message": f"Received ({len(groups)}) Groups",
            "type": "successfully",
            "data": {_bare(group.id): _group(group) for group in groups},
        }
    )


def _group(group: DeviceGroup) -> dict[str, Any]:
    return {
        "id": _bare(group.id),
        "groupname": group.subject,
        "participants": [
            {
                "groupid": _bare(group.id),
                "iscontact": person.is_contact,
                "name": person.name,
                "number": person.phone,
                "role": person.role,
                "groupname": group.subject,
            }
            for person in group.participants
        ],
    }


def _bare(group_id: str) -> str:
    return group_id.removesuffix(GROUP_SERVER)


ENDPOINTS = (
    Endpoint(
        path="grab",
        section=SECTION,
        summary="List the device's contacts or groups",
        handler=grab,
        credential="api_key",
        number_field="number_id",
        fields=(Field("type", "string", "What to list: `contacts` or `group`.", required=True, example="contacts"),),
        request_sample={"type": "contacts"},
        answer_sample={
            "code": "200",
            "message": "Received (1) Contacts",
            "type": "successfully",
            "data": [{"name": "Sari", "whatsapp_number": "6281234567890"}],
        },
        other_answers=(
            {
                "code": "200",
                "message": "Received (1) Groups",
                "type": "successfully",
                "data": {
                    "120363322806000000": {
                        "id": "120363322806000000",
                        "groupname": "Customers",
                        "participants": [
                            {
                                "groupid": "120363322806000000",
                                "iscontact": True,
                                "name": "Sari",
                                "number": "6281234567890",
                                "role": "admin",
                                "groupname": "Customers",
                            }
                        ],
                    }
                },
            },
        ),
    ),
)
