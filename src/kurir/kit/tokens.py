"""The operator's token and the comparison of tokens; empty and malformed tokens match nothing.

The token is in `<data_dir>/operator.token` (mode 0600, created on first use): whoever can read the data folder is the
operator.
"""

from __future__ import annotations

import hmac
import re
import secrets
from pathlib import Path

from kurir.kit.atomic_files import place_new, replace_whole

_SOUND = re.compile(r"[\x21-\x7e]{16,1000}")


class TokenError(RuntimeError):
    """The file of the operator's token holds no valid token; the sentence says what to do."""


def is_sound(token: str) -> bool:
    """Whether the text is well-formed as a token: 16 to 1,000 visible ASCII characters, no spaces."""
    return _SOUND.fullmatch(token) is not None


def opens(given: str, expected: str) -> bool:
    """Compares `given` with the `expected` token in constant time; a malformed token never matches."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace")) and is_sound(
        expected
    )


def load_token(data_dir: Path) -> str:
    """The operator's token; created on first use, and again when an interrupted start left an empty file.

    Raises TokenError and OSError.
    """
    path = _path(data_dir)
    new = (secrets.token_urlsafe(32) + "\n").encode()
    if not path.exists():
        place_new(path, new)
    elif not path.read_bytes().strip():
        replace_whole(path, new)
    return read_token(data_dir)


def read_token(data_dir: Path) -> str:
    """The operator's token as a gateway has created it. Raises TokenError and OSError."""
    path = _path(data_dir)
    token = path.read_bytes().strip().decode("ascii", "replace")
    if not is_sound(token):
        raise TokenError(
            f"{path} holds no token (expected 16 or more ASCII characters without spaces): remove the file and restart "
            "the gateway, which makes a new one"
        )
    return token


def _path(data_dir: Path) -> Path:
    return data_dir / "operator.token"
