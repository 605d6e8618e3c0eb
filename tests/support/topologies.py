"""Topologies that the tests of planning go between: the rungs, and what people write besides."""

from typing import Any

from tenfold.topology import tiers


def topology(**sections: Any) -> tiers.Topology:
    return tiers.Topology.model_validate({"service": {"name": "shop", "app": "shop.web:app"}, **sections})


BALANCED: dict[str, Any] = {"balancer": {"servers": 2}, "web": {"servers": 2}}

TOPOLOGIES = {
    "single": topology(),
    "database": topology(database={"placement": "own"}),
    "balanced": topology(**BALANCED),
    "replicated": topology(**BALANCED, database={"replicas": 2, "synchronous": True}),
    "replicated, asynchronous": topology(**BALANCED, database={"replicas": 2}),
    "one replica": topology(**BALANCED, database={"replicas": 1, "synchronous": True}),
    "four replicas": topology(**BALANCED, database={"replicas": 4, "synchronous": True}),
    "replicas without balancers": topology(database={"replicas": 2, "synchronous": True}),
    "five web servers": topology(balancer={"servers": 2}, web={"servers": 5}),
    "one balancer": topology(balancer={"servers": 1}, web={"servers": 3}),
    "three balancers, replicated": topology(
        balancer={"servers": 3}, web={"servers": 3}, database={"replicas": 2, "synchronous": True}
    ),
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
