"""The exchange: what the parts of this wire share. A bundle of references, without behaviour of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .app_state import AppStates
from .delays import Delays
from .first_contacts import FirstContacts
from .handsets import Handsets
from .linked_devices import LinkedDevices
from .media import MediaStore
from .recent_messages import RecentMessages
from .stanza import JID, LID_SERVER
from .stanza_log import StanzaLog

if TYPE_CHECKING:
    from kurir_sandbox.faults import Faults
    from kurir_sandbox.phones import Phones
    from kurir_sandbox.world import Person, World


@dataclass(slots=True)
class Exchange:
    """The world and the phones of the sandbox, and this wire's registers."""

    world: World
    phones: Phones
    handsets: Handsets
    devices: LinkedDevices
    app_states: AppStates
    media: MediaStore
    recent: RecentMessages
    faults: Faults
    delays: Delays
    log: StanzaLog
    first_contacts: FirstContacts

    def person_at(self, jid: JID) -> Person | None:
        """The person with this address (by LID or by number, any device) who is on WhatsApp."""
        by_lid = jid.server == LID_SERVER
        person = self.world.person_by_lid(jid.user) if by_lid else self.world.person(jid.user)
        return person if person and person.on_whatsapp else None


def lid_of(person: Person) -> JID:
    """The person's primary address."""
    return JID(person.lid, LID_SERVER)
