"""`tf.db`: the database, routed by position."""
