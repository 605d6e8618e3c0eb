"""The etcd engine: where Patroni's members agree on who leads."""

from tenfold import engines
from tenfold.engines.etcd import admin, command, probe, render, settings

ENGINE = engines.Engine(
    name="etcd",
    install="apt-get install etcd-server",
    locate=settings.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
    on_ready=admin.enable_auth,
)
