"""A purge that a person asks for: recorded like an app's, so that what an edge does not hear now it hears later.

Called by `tenfold cdn purge`, outside any app.
"""

from tenfold import bindings
from tenfold.sdk.cdn import delivery, edges, purges, settling
from tenfold.sdk.db import database as databases
from tenfold.sdk.db import transaction

ANSWER_SECONDS = 3.0
"""How long a person waits for the edges."""


async def purge(told: bindings.Bindings, wanted: purges.Purge) -> dict[str, str]:
    """By edge why it has not acknowledged; empty: it has. The service's processes see to the rest.

    Raises what a transaction raises.
    """
    assert told.database is not None
    database = databases.Database()
    await database.start(told.database, told.region)
    try:
        return await _purge(database, told, wanted)
    finally:
        await database.stop()


async def _purge(database: databases.Database, told: bindings.Bindings, wanted: purges.Purge) -> dict[str, str]:
    known = edges.Edges()
    known.update(told.cdn, told.region)
    recording = delivery.Delivery(database.shards, known, settling.Settled(database))
    database.shards.takers.purger = recording
    try:
        async with transaction.Transaction(database.shards) as tx:
            await tx.purge(tags=wanted.tags, urls=wanted.urls, everything=wanted.everything, soft=wanted.is_soft)
        missing = await known.tell([wanted], ANSWER_SECONDS)
        troubles = known.troubles
        return {name: troubles.get(name, "no answer") if name in missing else "" for name in sorted(known.names)}
    finally:
        await recording.stop()
        await known.stop()
