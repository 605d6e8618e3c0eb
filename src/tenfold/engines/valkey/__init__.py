"""The valkey engine: the cache that all share, one server or a cluster whose servers stand in for each other."""

from tenfold import engines
from tenfold.engines.valkey import command, probe, render, settings

ENGINE = engines.Engine(
    name="valkey",
    install=command.INSTALL,
    locate=settings.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)
