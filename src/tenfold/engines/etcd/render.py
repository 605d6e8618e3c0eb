"""etcd's configuration file. Called by the runtime before every start. Pure."""

from collections.abc import Mapping

from tenfold import engines
from tenfold.engines import templates
from tenfold.engines.etcd import settings

FILE = "etcd.yaml"

_templates = templates.of("etcd")


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`."""
    text = _templates.get_template("etcd.yaml.j2").render(
        name=seat.server.name,
        data=str(seat.data),
        client_url=settings.client_url(seat.address),
        peer_url=settings.peer_url(seat.address),
        peers=settings.peers(seat),
        token=f"{seat.topology.service.name}-{seat.server.scope}",
        heartbeat=settings.HEARTBEAT_MILLISECONDS,
        election=settings.ELECTION_MILLISECONDS,
        bcrypt_cost=settings.BCRYPT_COST,
    )
    return {FILE: text}
