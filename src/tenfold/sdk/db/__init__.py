"""`tf.db`: the database, routed by position."""

from tenfold.sdk.db.database import Database

__all__ = ["Database"]
