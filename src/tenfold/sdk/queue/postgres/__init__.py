"""The queue's transport on PostgreSQL: below rung `queued`, and for what is left or replayed on every rung.

transport    what the core of the queue sees
consuming    one subscription's messages: claimed with a lease, in batches
settling     what was acknowledged, given back or kept, gathered into few statements
listening    the connection on which processes wake each other
"""
