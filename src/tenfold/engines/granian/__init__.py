"""The granian engine: runs the service's app, wrapped, on a web server's private address."""

from tenfold import engines
from tenfold.engines.granian import command, probe, render

ENGINE = engines.Engine(
    name="granian",
    install="pip install granian",
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)
