"""How often each product was bought lately: a counter that many write to, kept by write-back.

An order is not slowed by it: a count is safe as soon as it is in the cache's log, and reaches the database with many
others in one transaction.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shop import catalogue
from shop.service import tf
from tenfold import Transaction


async def flush(tx: Transaction, items: Sequence[Any]) -> None:
    """Add a batch of counts to the database; called by tenfold, exactly once for each of them."""
    times: Counter[str] = Counter()
    for item in items:
        times[item.key] += item.value
    products = sorted(times)  # always in the same order: two flushes cannot deadlock
    await tx.execute(
        """insert into shop_bought (product_id, times)
           select * from unnest($1::uuid[], $2::bigint[])
           on conflict (product_id) do update set times = shop_bought.times + excluded.times, last_at = now()""",
        [UUID(one) for one in products],
        [times[one] for one in products],
    )
    changed = [catalogue.tag(one) for one in products]
    await tx.invalidate(tags=changed)
    await tx.purge(tags=changed, soft=True)  # a page may show the count before this one once more


counts = tf.cache.write_back("bought", flush=flush, seconds=1.0)


async def count(items: Sequence[dict[str, Any]]) -> None:
    """Remember that these order items were bought."""
    for item in items:
        await counts.put(item["product_id"], item["quantity"])
