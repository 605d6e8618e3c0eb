"""The nats engine: JetStream, where messages are kept by several servers until they are handled."""

from tenfold import engines
from tenfold.engines.nats import command, probe, render, settings

ENGINE = engines.Engine(
    name="nats",
    install=command.INSTALL,
    locate=settings.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)
