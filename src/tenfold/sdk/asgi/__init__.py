"""ASGI: what every request passes before and after the app, and the lifespan around both.

`wrap.Wrapped` is the door; `exchange` is one request. Called by `sdk/service`. Knows no framework.
"""
