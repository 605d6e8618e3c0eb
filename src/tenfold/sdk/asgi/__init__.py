"""ASGI: lifespan and middleware."""
