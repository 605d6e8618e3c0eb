"""The fixture `cdn`: what a test purges.

Made by `plugin` for the app that a test has served. There are no edges in tests: marks are headers of the response,
static files are served as on every rung.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.sdk import service
    from tenfold.sdk.cdn import purges


class Cdn:
    """`cdn.purged`: what edges would have been told to forget."""

    def __init__(self, tf: "service.Tenfold") -> None:
        self.purged: list[purges.Purge] = []
        """Since the test began, without what was rolled back; each has `tags`, `urls`, `everything` and `is_soft`."""
        self._tf = tf
        tf.cdn.watch(self.purged.append)

    @property
    def purged_tags(self) -> set[str]:
        """The tags of all of it."""
        return {tag for one in self.purged for tag in one.tags}

    def close(self) -> None:
        """Hear of nothing more."""
        self._tf.cdn.watch(None)
