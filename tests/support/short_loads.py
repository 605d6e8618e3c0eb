"""Short loads of two small journeys, for the load generator's tests."""

from typing import Any

from support.bad_server import BadServer
from tenfold import traffic
from tenfold.traffic import Plan, User, Write, journey


@journey
async def look(user: User) -> None:
    await user.get("/", name="look")


@journey
async def order(user: User) -> None:
    write = Write("order")
    await user.post("/orders", json={"reference": write.reference}, write=write)
    user.sees(write, (await user.get("/orders")).json())


async def run(server: BadServer | str, *journeys: traffic.Journey, **options: Any) -> traffic.Report:
    """A short run to its end."""
    options = {"rate": 200, "seconds": 0.25, "seed": 1, **options}
    url = server if isinstance(server, str) else server.url
    async with traffic.Load(url, Plan(journeys), **options) as running:
        await running.wait()
    return running.report


def reasons(report: traffic.Report) -> dict[str, int]:
    return {reason: tally.count for reason, tally in report.failures.items()}
