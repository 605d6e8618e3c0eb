"""The granian engine: runs the service's app, wrapped, on a private address: for requests, or for messages."""

import dataclasses

from tenfold import engines
from tenfold.engines.granian import command, probe, render, settings

ENGINE = engines.Engine(
    name="granian",
    install="pip install granian",
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)

WORKER = dataclasses.replace(ENGINE, name=settings.WORKER)
"""The same program with another role: its app handles messages, and answers nothing but probes."""
