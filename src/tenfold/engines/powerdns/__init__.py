"""The name servers: PowerDNS, which speaks DNS, and the program beside it that knows where each client is to go.

`ENGINE` and `GEOROUTE` are what the runtime drives, two processes on each server; `admin` is what can be asked of them.
"""

from tenfold import engines
from tenfold.engines.powerdns import command, probe, render

ENGINE = engines.Engine(
    name="powerdns",
    install=command.INSTALL,
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)

GEOROUTE = engines.Engine(
    name="georoute",
    install="pip install tenfold",
    locate=command.locate_georoute,
    render=render.render_georoute,
    command=command.georoute,
    probe=probe.probe_georoute,
)
