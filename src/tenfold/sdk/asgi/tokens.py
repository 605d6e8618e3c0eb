"""Positions as a client carries them: signed, so that a client cannot send every read of its own to the primary.

Called by `cookies`, `arrival` and `exchange`. Pure. A token is `POSITIONS_SIGNATURE`, safe in a cookie and a header.
"""

import base64
import hmac

from tenfold import errors, position

SIGNATURE_BYTES = 16
"""Half of an HMAC-SHA256: 128 bits, more than a position is worth guessing."""

MOST_CHARACTERS = 2048
"""Longer tokens are not even looked at: a session that wrote to 40 shards fits."""

MOST_REMEMBERED = 1024
"""Tokens that need not be verified again: a page asks for many things with the same one."""

NOTHING = position.Positions()


class Signer:
    """Writes and reads tokens of one service. Another service's tokens, with the same secret or not, do not pass."""

    __slots__ = ("_key", "_read")

    def __init__(self, secret: str, service: str) -> None:
        self._key = hmac.digest(secret.encode(), f"tenfold-positions:{service}".encode(), "sha256")
        self._read: dict[str, position.Positions] = {}

    def write(self, positions: position.Positions) -> str:
        """The token that carries these positions."""
        text = str(positions)
        return f"{text}_{self._signature(text)}"

    def read(self, token: str) -> position.Positions:
        """The positions of a token; none when it is not one of ours. Never raises: a client may send anything."""
        known = self._read.get(token)
        if known is not None:
            return known
        text, _, signature = token.partition("_")
        if not text or len(token) > MOST_CHARACTERS or not token.isascii():
            return NOTHING
        if not hmac.compare_digest(signature, self._signature(text)):
            return NOTHING
        try:
            found = position.Positions.parse(text)
        except errors.BadPosition:
            return NOTHING
        self._remember(token, found)
        return found

    def _remember(self, token: str, positions: position.Positions) -> None:
        """Only what was signed by us gets here, so nobody else can fill or empty the memory."""
        if len(self._read) >= MOST_REMEMBERED:
            self._read.clear()
        self._read[token] = positions

    def _signature(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), "sha256")[:SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
