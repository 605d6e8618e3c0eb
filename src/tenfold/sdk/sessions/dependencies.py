"""What FastAPI and Litestar see of `tf.session` and `tf.csrf` when they are dependencies.

Both frameworks look at a function's arguments to know what to give it. `tf.session` finds its request by itself, so
they are shown none; `tf.csrf` needs the request to read its form.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")


class Dependency(Generic[Given]):
    """An async function that shows a framework other arguments than it takes."""

    def __init__(self, call: Callable[[Any], Awaitable[Given]], *, takes_request: bool = False) -> None:
        self._call = call
        self._takes_request = takes_request

    async def __call__(self, request: Any = None) -> Given:
        return await self._call(request)

    @property
    def __signature__(self) -> inspect.Signature:
        if not self._takes_request:
            return inspect.Signature()
        from starlette.requests import Request  # late: only FastAPI asks, which has loaded it

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter("request", kind, annotation=Request)])
