"""Read-through: loaders registered for patterns of keys, so that a key alone is enough to read a value.

Called by `cache`. A key's parts are texts; they become what the loader's annotations say.
"""

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tenfold import errors
from tenfold.sdk.cache import cached


class Loaders:
    """The registered loaders, in the order of their registration: the first whose pattern fits is asked."""

    def __init__(self) -> None:
        self._known: list[tuple[cached.Recipe, Callable[..., Awaitable[Any]]]] = []

    def add(self, recipe: cached.Recipe, answer: Callable[..., Awaitable[Any]]) -> None:
        """Ask it for keys of its pattern from now on. Raises `MisuseError` when a key could not say all arguments."""
        needed = [
            one.name
            for one in inspect.signature(recipe.function).parameters.values()
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        lacking = [name for name in needed if name not in recipe.pattern.fields]
        if lacking:
            raise errors.MisuseError(
                f"cache: the loader {recipe.function.__qualname__} needs {', '.join(lacking)}, which its pattern "
                f"{recipe.pattern.text!r} does not say; put {{{lacking[0]}}} into it"
            )
        self._known.append((recipe, answer))

    async def read(self, key: str) -> Any:
        """What the loader of this key returns, or has returned. Raises `MisuseError` when there is none."""
        for recipe, answer in self._known:
            texts = recipe.pattern.read(key)
            if texts is not None:
                return await answer(**_converted(recipe, texts))
        patterns = ", ".join(repr(recipe.pattern.text) for recipe, _ in self._known) or "none"
        raise errors.MisuseError(
            f"cache: no loader is registered for {key!r} (there are: {patterns}); "
            'write @tf.cache.loader("product:{pid}") above an async function'
        )


def _converted(recipe: cached.Recipe, texts: dict[str, str]) -> dict[str, Any]:
    hints = typing.get_type_hints(recipe.function)
    try:
        return {name: msgspec.convert(text, hints.get(name, str), strict=False) for name, text in texts.items()}
    except msgspec.ValidationError as error:
        raise errors.NotFound(f"cache: no key of {recipe.pattern.text!r}: {error}") from error
