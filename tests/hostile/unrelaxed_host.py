"""An engine host whose library has no descriptor to relax: unknown values end the event stream, as in neonize alone."""

from __future__ import annotations

from kurir.channels.linked_device.engine_host import optional_enums
from kurir.channels.linked_device.engine_host.program import main


def _not_found(_library: str) -> int:
    raise optional_enums.DescriptorNotFoundError("left out for a test")


if __name__ == "__main__":
    optional_enums.relax = _not_found
    main()
