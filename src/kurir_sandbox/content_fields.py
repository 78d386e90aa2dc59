"""What a message holds, as JSON fields: for the ledger, for messages on their way, and for the hash that identifies
contents.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kurir_sandbox.traffic import Content, Media, Place, TemplateUse


def rebuild(fields: dict[str, Any], media: Media | None) -> Content:
    """The content that `describe` described as `fields`, with its media's bytes given back."""
    place, template = fields["location"], fields["template"]
    use = TemplateUse(template["name"], template["language"], tuple(template["parameters"])) if template else None
    return Content(
        kind=fields["kind"],
        text=fields["text"],
        caption=fields["caption"],
        media=media,
        place=Place(**place) if place else None,
        template=use,
        bubble=fields["bubble"],
    )


def describe(content: Content, digest: str = "") -> dict[str, Any]:
    """The fields of `content` as JSON values, all always present; `digest` is its media's SHA-256 (hex)."""
    media, place, template = content.media, content.place, content.template
    return {
        "kind": content.kind,
        "text": content.text,
        "caption": content.caption,
        "media": {"mime": media.mime, "name": media.name, "size": len(media.data), "sha256": digest} if media else None,
        "location": {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "name": place.name,
            "address": place.address,
        }
        if place
        else None,
        "template": {
            "name": template.name,
            "language": template.language,
            "parameters": list(template.parameters),
        }
        if template
        else None,
        "bubble": content.bubble,
    }


def content_hash(fields: dict[str, Any]) -> str:
    """SHA-256 (hex) over the canonical JSON (sorted keys, no spaces, UTF-8) of what `describe` returned."""
    canonical = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
