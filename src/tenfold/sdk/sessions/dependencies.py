"""What FastAPI and Litestar see of `tf.session` and `tf.csrf` when they are dependencies.

Both frameworks look at a function's arguments to know what to give it. `tf.session` finds its request by itself, so
they are shown none; `tf.csrf` needs the request to read its form.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, overload

Given = TypeVar("Given")
Method = Callable[[Any, Any], Awaitable[Given]]


class Dependency(Generic[Given]):
    """A method of one object, which shows a framework other arguments than it takes."""

    def __init__(self, method: Method[Given], owner: Any, *, takes_request: bool) -> None:
        self._method = method
        self._owner = owner
        self._takes_request = takes_request
        self.__doc__ = method.__doc__

    async def __call__(self, request: Any = None) -> Given:
        return await self._method(self._owner, request)

    def __eq__(self, other: object) -> bool:
        """The same method of the same object, as bound methods are: `app.dependency_overrides` looks for it so."""
        return isinstance(other, Dependency) and (self._method, id(self._owner)) == (other._method, id(other._owner))

    def __hash__(self) -> int:
        return hash((self._method, id(self._owner)))

    @property
    def __signature__(self) -> inspect.Signature:
        if not self._takes_request:
            return inspect.Signature()
        from starlette.requests import Request  # late: only FastAPI asks, which has loaded it

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter("request", kind, annotation=Request)])


class offered(Generic[Given]):  # noqa: N801 - a decorator
    """Makes a method, whose one argument may be left out, a `Dependency` of its object."""

    takes_request = False

    def __init__(self, method: Method[Given]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Method[Given]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> Dependency[Given]: ...
    def __get__(self, owner: object | None, kind: type) -> Method[Given] | Dependency[Given]:
        if owner is None:
            return self._method
        return Dependency(self._method, owner, takes_request=self.takes_request)


class offered_with_request(offered[Given]):  # noqa: N801 - a decorator
    """As `offered`; FastAPI gives it the request."""

    takes_request = True
