"""`tf.tokens`: signed tokens for clients that keep no cookies, and the list of those that were taken back."""
