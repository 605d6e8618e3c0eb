"""A loopback network of one's own: 127.N.0.0/16, chosen so that two services on one machine never collide.

Called by the runtime once in a service's life. A network is claimed by a file that names its owner; a claim whose
owner's folder is gone is void. A network with a listening socket of somebody else is not free either.
"""

import hashlib
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

FIRST, LAST = 16, 250
"""127.0 is everybody's; low numbers are popular with people (127.1.1.1) and resolvers (127.0.0.53)."""


def claims_folder() -> Path:
    """Where claims are kept: one folder a user, outside every project."""
    return Path(tempfile.gettempdir()) / f"tenfold-networks-{os.getuid()}"


def claim(owner: Path, claims: Path) -> int:
    """The network of `owner` (a folder): the one it claimed before, else a free one near the hash of its path.

    Raises OSError when none of them is free.
    """
    claims.mkdir(mode=0o700, parents=True, exist_ok=True)
    start = int.from_bytes(hashlib.sha256(os.fsencode(owner)).digest()[:4], "big")
    count = LAST - FIRST + 1
    busy = listening_networks()
    for offset in range(count):
        number = FIRST + (start + offset) % count
        if _holds(claims / str(number), owner) or (number not in busy and _take(claims / str(number), owner)):
            return number
    raise OSError(f"no free network between 127.{FIRST}.0.0 and 127.{LAST}.0.0; remove stale claims in {claims}")


def release(owner: Path, claims: Path, number: int) -> None:
    """Give a network back, when it is the owner's."""
    if _holds(claims / str(number), owner):
        (claims / str(number)).unlink(missing_ok=True)


def release_all(owner: Path, claims: Path) -> None:
    """Give back every network that the owner claimed."""
    for number in range(FIRST, LAST + 1):
        release(owner, claims, number)


def listening_networks() -> frozenset[int]:
    """Second numbers of all 127.N.x.y addresses with a listening TCP socket (proc(5), /proc/net/tcp)."""
    numbers = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        address, state = fields[1].split(":")[0], fields[3]
        octets = bytes.fromhex(address)[::-1]  # printed in host order on little-endian machines
        if state == "0A" and octets[0] == 127:
            numbers.add(octets[1])
    return frozenset(numbers)


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on this address and port, not even somebody who would share it (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError:
            return False
    return True


def listener_on_any(port: int) -> bool:
    """Whether something listens on 0.0.0.0 at this port: then loopback addresses of our own refuse to bind."""
    wanted = f"00000000:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in lines)


def _holds(claim_file: Path, owner: Path) -> bool:
    with suppress(OSError):
        return claim_file.read_text() == str(owner)
    return False


def _take(claim_file: Path, owner: Path) -> bool:
    """Claim by exclusive creation; a claim of a folder that is gone is removed first."""
    with suppress(OSError):
        holder = claim_file.read_text()
        if holder and not Path(holder).is_dir():
            claim_file.unlink()
    try:
        with claim_file.open("x") as file:
            file.write(str(owner))
    except FileExistsError:
        return False
    return True
