"""Topologies that the tests of planning go between: the rungs, and what people write besides."""

from typing import Any

from tenfold.topology import tiers


def topology(**sections: Any) -> tiers.Topology:
    return tiers.Topology.model_validate({"service": {"name": "shop", "app": "shop.web:app"}, **sections})


BALANCED: dict[str, Any] = {"balancer": {"servers": 2}, "web": {"servers": 2}}

REPLICATED: dict[str, Any] = {**BALANCED, "database": {"replicas": 2, "synchronous": True}}
CACHED: dict[str, Any] = {**REPLICATED, "cache": {"servers": 3}}
CDN: dict[str, Any] = {**CACHED, "cdn": {"edges": 2}}
STATELESS: dict[str, Any] = {**CDN, "sessions": {"store": "cache"}}
QUEUED: dict[str, Any] = {**STATELESS, "queue": {"servers": 3}, "workers": {"servers": 2}}

TOPOLOGIES = {
    "single": topology(),
    "database": topology(database={"placement": "own"}),
    "balanced": topology(**BALANCED),
    "replicated": topology(**REPLICATED),
    "cached": topology(**CACHED),
    "cdn": topology(**CDN),
    "stateless": topology(**STATELESS),
    "queued": topology(**QUEUED),
    "one server, its cache and its queue": topology(
        cache={"servers": 1}, sessions={"store": "cache"}, queue={"servers": 1}, workers={}
    ),
    "a larger cache and queue": topology(
        **BALANCED, cache={"servers": 4}, sessions={"store": "cache"}, queue={"servers": 5}, workers={"servers": 3}
    ),
    "workers on the database's queue, tokens": topology(
        **BALANCED, sessions={"store": "token"}, workers={"servers": 1}
    ),
    "a queue without workers, sticky": topology(**BALANCED, sessions={"store": "memory"}, queue={"servers": 1}),
    "replicated, asynchronous": topology(**BALANCED, database={"replicas": 2}),
    "one server and an edge": topology(cdn={"edges": 1}),
    "three edges": topology(**BALANCED, cdn={"edges": 3}),
    "one replica": topology(**BALANCED, database={"replicas": 1, "synchronous": True}),
    "four replicas": topology(**BALANCED, database={"replicas": 4, "synchronous": True}),
    "replicas without balancers": topology(database={"replicas": 2, "synchronous": True}),
    "five web servers": topology(balancer={"servers": 2}, web={"servers": 5}),
    "one balancer": topology(balancer={"servers": 1}, web={"servers": 3}),
    "three balancers, replicated": topology(
        balancer={"servers": 3}, web={"servers": 3}, database={"replicas": 2, "synchronous": True}
    ),
    "a larger database": topology(
        **BALANCED, database={"replicas": 2, "synchronous": True, "memory": 256 * 1024**2, "max_connections": 400}
    ),
    "a plain database, larger": topology(
        database={"placement": "own", "memory": 256 * 1024**2, "max_connections": 400}
    ),
    "one server, smaller": topology(database={"memory": 64 * 1024**2, "max_connections": 100}),
    "a group": topology(
        balancer={"servers": 2, "route": [{"path": "/api/", "group": "api"}]},
        web={"servers": 2},
        web_groups={"api": {"servers": 2}},
    ),
    "two groups, replicated": topology(
        balancer={"servers": 2, "route": [{"path": "/api/", "group": "api"}]},
        web={"servers": 1},
        web_groups={"api": {"servers": 1}, "admin": {"servers": 2}},
        database={"replicas": 2, "synchronous": True},
    ),
}
