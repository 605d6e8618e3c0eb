"""The pytest plugin for users' apps: one real PostgreSQL a run, a fresh database a test, and what production will do.

    async def test_a_note_is_kept(client):
        await client.post("/api/notes", json={"text": "milk"})
        assert "milk" in (await client.get("/")).text

pytest loads `plugin` into every run of an environment that has tenfold. It costs nothing there until a fixture is asked
for, but where a `tenfold.toml` is found the environment is made ready for the app's import. The rest is behind it:

    project      where the app is: pytest's options, tenfold.toml
    setting      what this process's tests find in their environment
    run          what they share: the PostgreSQL, its template, the wires; on a thread with a loop of its own
    databases    a migrated template and its clones
    serving      the app with its lifespan run, and clients
    asynchrony   the one async fixture, for AnyIO and for pytest-asyncio
    simulate     failover, replica lag, a lost commit: on a `stage` of their own, over `wire`s that can be cut
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.testing.cdn import Cdn as Cdn
    from tenfold.testing.run import FreshDatabase as FreshDatabase
    from tenfold.testing.simulate import Simulate as Simulate

__all__ = ["Cdn", "FreshDatabase", "Simulate"]

_HOMES = {"Cdn": "tenfold.testing.cdn", "FreshDatabase": "tenfold.testing.run", "Simulate": "tenfold.testing.simulate"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenfold.testing' has no attribute {name!r}")
    import importlib  # late: every pytest run of the environment comes by here

    return getattr(importlib.import_module(_HOMES[name]), name)
