"""What lies between regions: our own program, which carries everything that crosses from one to another."""

from tenfold import engines
from tenfold.engines.wan import command, probe, render

ENGINE = engines.Engine(
    name="wan",
    install="pip install tenfold",
    locate=command.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
)
