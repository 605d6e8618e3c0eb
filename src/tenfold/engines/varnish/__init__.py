"""The edges: Varnish, which keeps what the app marks, and forgets it by tag."""
