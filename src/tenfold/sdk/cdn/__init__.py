"""What edges may keep, and what they must forget: `tf.cdn` and `tx.purge`."""
