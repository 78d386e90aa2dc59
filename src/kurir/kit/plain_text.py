"""Escaping of untrusted text shown to people: characters that act on a terminal or reorder text become visible.
Pure."""

from __future__ import annotations

import unicodedata

_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control, format, surrogate and line-breaking characters."""
_JOINERS = "\u200c\u200d"
"""Zero-width joiners: invisible, but part of words in some scripts and of many emoji, and harmless."""


def visible(text: str, keep: str = "") -> str:
    r"""Returns `text` with control characters, line breaks, bidirectional controls, other invisible characters and lone
    surrogates written as `\x1b` or `\u202e`, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in _ACTING and one not in _JOINERS and one not in keep
        else one
        for one in text
    )
