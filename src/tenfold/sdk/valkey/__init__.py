"""A client of Valkey: one multiplexed connection to each server, a batch of commands each turn of the loop.

`client.Client` is what the cache, the sessions and the tokens share. It knows nothing of what they keep there.
"""
