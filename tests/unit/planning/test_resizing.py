"""Databases of other regions follow the home region's primary: it does not leave them behind."""

import dataclasses

from support import simulated_steps
from support.topologies import TOPOLOGIES, topology
from tenfold.observation import snapshot
from tenfold.planning import resizing, situation
from tenfold.topology import layout


def _home(far_connections: int) -> situation.Situation:
    """A replicated home region that shall have 400 connections, followed by a database that has so many."""
    wanted = topology(balancer={}, web={"servers": 2}, database={"replicas": 2, "max_connections": 400})
    there = simulated_steps.serving(TOPOLOGIES["replicated, asynchronous"]).look(wanted)
    made = situation.Situation(wanted, layout.layout(wanted), there, {}, region="home", home="home")
    node = snapshot.DatabaseNode("far-database-1", 0, "patroni", "standby", True, max_connections=far_connections)
    far = dataclasses.replace(made, region="far", there=dataclasses.replace(there, databases=(node,)))
    return dataclasses.replace(made, everywhere={"home": made, "far": far})


def test_connections_are_not_raised_beyond_what_a_follower_elsewhere_has() -> None:
    assert resizing.raise_databases(_home(400)) is not None
    assert resizing.raise_databases(_home(200)) is None
    assert "far-database-1, which follow them, have fewer" in resizing.waiting(_home(200))
