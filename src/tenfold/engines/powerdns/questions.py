"""One DNS query to a name server of ours, with or without a client's network, and what it answered.

Called by probe and by whoever looks at the answers. It asks this one server, never a resolver.
"""

import asyncio
from dataclasses import dataclass

import dns.asyncquery
import dns.edns
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from tenfold import errors

SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server said."""

    code: str
    """`NOERROR`, `NXDOMAIN`, `REFUSED`, ..."""
    addresses: tuple[str, ...]
    """IPv4 and IPv6, in their order."""
    life_seconds: int
    """How long it may be kept; 0 without addresses."""
    scope: int | None
    """For how long a prefix of the client's network it holds; None: no network was told."""


async def ask(
    host: str, port: int, name: str, *, subnet: str = "", kind: str = "A", seconds: float = SECONDS
) -> Answer:
    """Ask for a name's addresses, by UDP and by TCP when the answer is too large. Raises EngineFailed without one."""
    options = [dns.edns.ECSOption.from_text(subnet)] if subnet else []
    query = dns.message.make_query(name, kind, use_edns=0, options=options)
    try:
        async with asyncio.timeout(seconds):
            reply, _ = await dns.asyncquery.udp_with_fallback(query, host, timeout=seconds, port=port)
    except (dns.exception.DNSException, OSError) as error:
        raise errors.EngineFailed(f"{host}:{port}: no answer for {name} ({error or type(error).__name__})") from error
    return _read(reply)


def _read(reply: dns.message.Message) -> Answer:
    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
    found = [one for one in reply.answer if one.rdtype in kinds]
    told = next((one for one in reply.options if isinstance(one, dns.edns.ECSOption)), None)
    return Answer(
        code=dns.rcode.to_text(reply.rcode()),
        addresses=tuple(str(record) for one in found for record in one),
        life_seconds=min((one.ttl for one in found), default=0),
        scope=told.scopelen if told else None,
    )
