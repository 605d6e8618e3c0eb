"""`tf.queue`: messages that a transaction publishes and that groups of subscribers handle, on PostgreSQL or on NATS."""
