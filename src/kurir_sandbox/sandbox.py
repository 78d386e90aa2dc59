"""The parts of the sandbox, put together: world, phones, and the two wires."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from kurir_sandbox import seed
from kurir_sandbox.faults import Faults
from kurir_sandbox.graph_api.server import GraphNetwork
from kurir_sandbox.ledger import Ledger
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.traffic import ChannelName, Network
from kurir_sandbox.world import World

if TYPE_CHECKING:
    from kurir_sandbox.web_protocol.server import WebNetwork

_PLANTED = "planted"
# What a gateway was started with and cannot learn anew: ports and Noise keys. And which seed this is.
_KEPT_ON_RESET = ("ports", "web_wire", "seed")

log = structlog.get_logger(__name__)


class Sandbox:
    """The whole sandbox on the folder `data`. `web` is None when only the Cloud API is wanted."""

    def __init__(self, data: Path, host: str, seed_name: seed.SeedName = "default", with_web: bool = True) -> None:
        self._data = data
        self._host = host
        self._with_web = with_web
        self.world = World(data)
        self.files = MediaFiles(data / "media")
        self.phones = Phones(Ledger(data, self.files))
        self.faults = Faults()
        self.graph = GraphNetwork(self.world, self.phones, self.files, data, faults=self.faults)
        self.web: WebNetwork | None = None
        self._plant(seed_name)

    async def start(self) -> None:
        """Open the wires and take up what an earlier run left."""
        self.graph.start()
        if self._with_web:
            await self._start_web()
        self._attach()
        self.phones.resume()

    async def stop(self) -> None:
        """Close the wires and the databases."""
        await self.phones.stop()
        if self.web is not None:
            await self.web.stop()
        await self.graph.stop()
        await self.phones.ledger.close()
        self.world.close()

    async def reset(self, everything: bool) -> None:
        """Forget messages and activity; with `everything` also devices, people and faults, back to the seed."""
        await self.phones.stop()
        await self.graph.forget(everything)
        await self.phones.forget()
        if not everything:
            return
        self.faults.clear()
        self.files.clear()
        planted = self.world.state.get("seed", _PLANTED)
        official = self.world.business_by_phone(seed.OFFICIAL_NUMBER)
        self.world.clear(_KEPT_ON_RESET)
        if planted == b"default":
            business = seed.plant(self.world, official)
            seed.plant_templates(self.graph.templates, business.waba_id)
        if self.web is not None:
            await self.web.reset()

    def _plant(self, name: seed.SeedName) -> None:
        if self.world.state.get("seed", _PLANTED) is not None:
            return
        if name == "default":
            business = seed.plant(self.world)
            seed.plant_templates(self.graph.templates, business.waba_id)
        self.world.state.put("seed", _PLANTED, name.encode())
        log.info("sandbox_seeded", seed=name, people=len(self.world.people()))

    def _attach(self) -> None:
        networks: dict[ChannelName, Network] = {"cloud_api": self.graph}
        if self.web is not None:
            networks["linked_device"] = self.web
        self.phones.attach(networks)

    async def _start_web(self) -> None:
        # Imported here, so that the Cloud API alone starts without the linked-device wire and its cryptography.
        from kurir_sandbox.web_protocol.server import WebNetwork  # noqa: PLC0415

        web = WebNetwork(self.world, self.phones, self._data, self._host, faults=self.faults)
        await asyncio.wait_for(web.start(), 30)
        self.web = web
