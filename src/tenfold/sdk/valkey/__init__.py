"""A client of Valkey: one multiplexed connection to each server, a batch of commands each turn of the loop.

`client.Client` is what the cache, the sessions and the tokens share. It knows nothing of what they keep there.
"""

from tenfold.sdk.valkey.client import Client
from tenfold.sdk.valkey.scripts import Script
from tenfold.sdk.valkey.trouble import Away, Refused, Unavailable, ValkeyError

__all__ = ["Away", "Client", "Refused", "Script", "Unavailable", "ValkeyError"]
