"""SQLAlchemy's asyncio ORM on `tf.db`: what an app imports when it has models.

    from tenfold.sqlalchemy import Sessions
    sessions = Sessions(tf)

Built on the SDK and on SQLAlchemy's own asyncpg dialect. It knows neither tenfold's engines nor its runtime.
"""

from tenfold.sqlalchemy.sessions import Sessions

__all__ = ["Sessions"]
