"""The people, groups, official number and templates that a new sandbox starts with."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Literal

from kurir_sandbox.graph_api.template_book import TemplateBook
from kurir_sandbox.graph_api.templates import checked
from kurir_sandbox.world import Business, Member, World

SeedName = Literal["default", "empty"]

DEVICE_OWNER, SECOND_OWNER = "6281100000001", "6281100000002"
OFFICIAL_NUMBER = "6281500000009"
_PEOPLE = {
    DEVICE_OWNER: ("Toko Kurir", "100000000000001"),
    SECOND_OWNER: ("Toko Kedua", "100000000000002"),
    "6281234567801": ("Siti Rahmawati", "100000000000011"),
    "6281234567802": ("Budi Santoso", "100000000000012"),
    "6281234567803": ("Dewi Lestari", "100000000000013"),
    "6281234567804": ("Agus Wijaya", "100000000000014"),
    "6281234567805": ("Putri Ayu", "100000000000015"),
    "6285234567806": ("Rizky Pratama", "100000000000016"),
    "6285234567807": ("Nur Hidayah", "100000000000017"),
    "6285234567808": ("Hendra Gunawan", "100000000000018"),
    "6287834567809": ("Ratna Sari", "100000000000019"),
    "6287834567810": ("Joko Susilo", "100000000000020"),
}
_NOT_ON_WHATSAPP = {
    "6281999999901": ("Telepon Rumah Pak RT", "100000000000091"),
    "6281999999902": ("Nomor Lama Dewi", "100000000000092"),
    "6281999999903": ("Pos Satpam", "100000000000093"),
}
_GROUP, _FOREIGN_GROUP = "120363000000000001", "120363000000000002"
_TEMPLATES: tuple[dict[str, Any], ...] = (
    {
        "name": "hello_world",
        "language": "en_US",
        "category": "UTILITY",
        "components": [
            {"type": "HEADER", "format": "TEXT", "text": "Hello World"},
            {"type": "BODY", "text": "Welcome and congratulations! This message shows that you can send."},
            {"type": "FOOTER", "text": "WhatsApp Business Platform sample message"},
        ],
    },
    {
        "name": "pesanan_dikirim",
        "language": "id",
        "category": "UTILITY",
        "components": [
            {
                "type": "BODY",
                "text": "Halo {{1}}, pesanan Anda {{2}} sudah kami kirim hari ini.",
                "example": {"body_text": [["Siti", "INV-001"]]},
            }
        ],
    },
    {
        "name": "kode_verifikasi",
        "language": "id",
        "category": "AUTHENTICATION",
        "components": [
            {"type": "BODY", "add_security_recommendation": True},
            {"type": "FOOTER", "code_expiration_minutes": 10},
            {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE", "text": "Salin kode"}]},
        ],
    },
)


def plant(world: World, official: Business | None = None) -> Business:
    """Fill an empty world with the default people; `official` keeps the ids and secrets of an earlier planting.

    Returns the official number "Kurir Official".
    """
    for on_whatsapp, people in ((True, _PEOPLE), (False, _NOT_ON_WHATSAPP)):
        for phone, (name, lid) in people.items():
            world.add_person(phone, name, on_whatsapp, lid)
    customers = [phone for phone in _PEOPLE if phone not in (DEVICE_OWNER, SECOND_OWNER)]
    for phone in (*customers[:6], *_NOT_ON_WHATSAPP):
        name = (_PEOPLE | _NOT_ON_WHATSAPP)[phone][0]
        world.set_contact(DEVICE_OWNER, phone, f"{name.split(' ', 1)[0]} Pelanggan")
    world.add_group(
        "Pelanggan Setia",
        DEVICE_OWNER,
        [Member(customers[0], "admin"), *(Member(phone, "participant") for phone in customers[1:4])],
        _GROUP,
    )
    others = [Member(phone, "participant") for phone in customers[5:8]]
    world.add_group("Arisan RT 05", customers[4], others, _FOREIGN_GROUP)
    return world.add_business(replace(official, callback_url=None) if official else _official())


def plant_templates(book: TemplateBook, waba_id: str) -> None:
    """Add the sample templates, approved at once."""
    for sample in _TEMPLATES:
        book.create(waba_id, checked(sample), review_seconds=0)


def _official() -> Business:
    return Business(
        phone=OFFICIAL_NUMBER,
        name="Kurir Official",
        phone_number_id="109000000000001",
        waba_id="209000000000001",
        app_id="309000000000001",
        app_secret=secrets.token_hex(16),
        access_token="EAA" + secrets.token_urlsafe(40),
        verify_token=secrets.token_urlsafe(16),
        callback_url=None,
    )
