"""Position cookies: what a browser carries so that its next read sees its last write.

Called by `exchange`. No I/O. There are several slots, because responses to parallel requests may arrive in any order
and a cookie that arrives last wins: a response writes a slot that its own request did *not* bring, and deletes those
that it did (its positions include theirs). So a response never deletes or overwrites what a parallel one has set,
unless two of them that both write pick one of the free slots by chance and arrive in the wrong order. Readers take
the maximum.
"""

import secrets
from itertools import count

from tenfold import position
from tenfold.sdk.asgi import protocol, settings, tokens

SLOTS = 8
LIFE_SECONDS = 60
"""Every replica has passed a position by then, or is out of the read pool."""

_turns = count(secrets.randbelow(SLOTS))
"""Processes begin at different slots: parallel requests go to different ones."""


def read(header: bytes, setup: settings.Settings) -> tuple[position.Positions, frozenset[int]]:
    """The positions in a Cookie header, the maximum of all slots, and the slots that were there."""
    found = tokens.NOTHING
    slots = set()
    for part in header.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if not name.startswith(setup.slot_prefix):
            continue
        number = name[len(setup.slot_prefix) :]
        if number.isdigit() and int(number) < SLOTS:
            slots.add(int(number))
            carried = setup.positions.read(value.decode("latin-1"))
            found = found.raised(carried.values()) if found else carried
    return found, frozenset(slots)


def write(token: str, brought: frozenset[int], setup: settings.Settings, *, is_secure: bool) -> protocol.Headers:
    """The Set-Cookie headers of a response that wrote: a free slot gets the token, the slots brought are deleted."""
    attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")
    slot = _free_slot(brought)
    prefix = setup.slot_prefix.decode()
    cookies = [f"{prefix}{slot}={token}; Max-Age={LIFE_SECONDS}{attributes}"]
    cookies += [f"{prefix}{old}=; Max-Age=0{attributes}" for old in sorted(brought) if old != slot]
    return [(b"set-cookie", cookie.encode("latin-1")) for cookie in cookies]


def _free_slot(brought: frozenset[int]) -> int:
    """Parallel responses of one process take different slots in turn; all slots taken: any."""
    free = [slot for slot in range(SLOTS) if slot not in brought] or list(range(SLOTS))
    return free[next(_turns) % len(free)]
