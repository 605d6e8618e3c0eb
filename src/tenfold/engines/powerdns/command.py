"""How the two processes of a name server are found, started and stopped. Called by the runtime.

Pure but for looking where the program is.
"""

import shutil
import sys
from pathlib import Path

from tenfold import engines, errors
from tenfold.engines.powerdns import render, settings
from tenfold.topology import layout

INSTALL = "apt-get install pdns-server pdns-backend-remote"

BACKEND = "pdns/libremotebackend.so"


def locate() -> Path | None:
    """The program, or None when it or its remote backend is not installed."""
    found = shutil.which("pdns_server") or shutil.which("pdns_server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        return None
    libraries = (*Path("/usr/lib").glob(f"*/{BACKEND}"), *Path("/usr/lib").glob(BACKEND))
    return Path(found) if libraries or Path("/usr/local/lib", BACKEND).exists() else None


def command(seat: engines.Seat) -> engines.Command:
    """PowerDNS in the foreground, without a guardian: who starts it again is the runtime. Raises EngineMissing."""
    program = locate()
    if program is None:
        raise errors.EngineMissing(f"powerdns: pdns_server or its remote backend not found; install it: {INSTALL}")
    return engines.Command(
        argv=(
            *(str(program), f"--config-dir={seat.config}", f"--config-name={seat.server.name}"),
            *("--daemon=no", "--guardian=no", "--disable-syslog=yes", "--log-timestamp=yes"),
        ),
        grace_seconds=5.0,
    )


def locate_georoute() -> Path | None:
    """It is tenfold's own: the interpreter runs it."""
    return Path(sys.executable)


def georoute(seat: engines.Seat) -> engines.Command:
    """The program beside PowerDNS."""
    places = (
        str(seat.config / render.ZONE),
        str(settings.socket(seat)),
        seat.address,
        str(layout.PORTS["georoute"]),
        str(settings.control_socket(seat.run, seat.server.name)),
    )
    return engines.Command(
        argv=(sys.executable, "-m", "tenfold.georoute", *places), env={"PYTHONUNBUFFERED": "1"}, grace_seconds=5.0
    )
