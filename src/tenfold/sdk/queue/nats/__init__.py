"""The queue's transport on NATS JetStream, from rung `queued` on.

    transport    what the core of the queue sees: send, consume, known groups
    publishing   messages to the stream, many at once, each acknowledged by the servers
    consuming    messages from a group's consumers, as many as can be handled
    streams      the stream and its consumers: what they must be, and making them so
    naming       subjects, partitions, names of streams and consumers (pure)
    link         one connection to whichever server answers, for ever
    wire         the protocol's bytes (pure)

Each builds on those below it. The client is our own because the hot path is: one write for all that one turn of the
event loop has to say, and one pass over what a read has brought.
"""
