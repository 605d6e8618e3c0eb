"""The valkey engine: the cache that all share, one server or a cluster whose servers stand in for each other."""
