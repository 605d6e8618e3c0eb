"""The front door: HAProxy 2.8, which spreads requests over the web servers and repeats what may be repeated.

`ENGINE` is what the runtime drives; `admin` is what can be asked of it while it runs.
"""

from tenfold import engines
from tenfold.engines.haproxy import command, probe, render

ENGINE = engines.Engine(
    name="haproxy",
    install=command.INSTALL,
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
    version_argument="-v",
)
