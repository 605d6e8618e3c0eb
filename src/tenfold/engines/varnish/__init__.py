"""The edges: Varnish, which keeps what the app marks, and forgets it by tag."""

from tenfold import engines
from tenfold.engines.varnish import command, probe, render

ENGINE = engines.Engine(
    name="varnish",
    install=command.INSTALL,
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
    version_argument="-V",
)
