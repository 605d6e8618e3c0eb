"""The patroni engine: PostgreSQL with replicas and automatic failover."""

from tenfold import engines
from tenfold.engines.patroni import admin, command, probe, render, settings

ENGINE = engines.Engine(
    name="patroni",
    install="pip install 'patroni[etcd3,psycopg3]' psycopg-binary",
    locate=settings.locate,
    render=render.render,
    command=command.command,
    probe=probe.probe,
    on_power=admin.clear_after_power_cut,
    on_ready=admin.configure,
)
