"""A write of tenfold's own, apart from a transaction that the app may have open at that moment.

Used by `sdk/sessions` and `sdk/tokens`: a session is kept when the response begins, whether or not the app has a
transaction open then.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tenfold.sdk.db import transaction


@contextmanager
def apart() -> Iterator[None]:
    """What is written inside commits for itself, on a connection of its own."""
    token = transaction.open_transaction.set(None)
    try:
        yield
    finally:
        transaction.open_transaction.reset(token)
