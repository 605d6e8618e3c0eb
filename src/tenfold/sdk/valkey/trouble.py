"""What can go wrong between us and a Valkey server, as two exceptions.

Raised by `sdk/valkey` alone. The parts of the SDK that are built on it map them to what they mean to their own callers
(a miss of the cache, a session that cannot be kept); an app meets them when it uses `tf.valkey` itself.
"""

from tenfold import errors


class ValkeyError(errors.TenfoldError):
    """The root of both."""


class Unavailable(ValkeyError, errors.StoreUnavailable):  # noqa: N818 - as its root in errors.py
    """No answer within the deadline. `is_unknown`: it was sent, so a write has happened or has not; else it has not."""

    def __init__(self, message: str, *, is_unknown: bool = False) -> None:
        self.is_unknown = is_unknown
        super().__init__(f"{message}; {'a write may have happened' if is_unknown else 'nothing was sent'}")


class Away(Unavailable):
    """The server is known to be away, and the command was in a hurry."""


class Refused(ValkeyError):  # noqa: N818 - the name says more than RefusedError
    """The server answered with an error, and nothing has happened. Made by the parser from the error's text.

    `code` is its first word, which Valkey's protocol defines: OOM, WRONGTYPE, NOAUTH, NOPERM, ...
    """

    @property
    def code(self) -> str:
        """The first word of the error."""
        return str(self).partition(" ")[0]
