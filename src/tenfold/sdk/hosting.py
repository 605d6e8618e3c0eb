"""What an app server loads: the service's app, imported and wrapped; in a worker, what handles its messages.

`application` is the factory that the granian engine names. An app that does not import ends its process with one
readable traceback: starting it again would not help, and the old processes still serve.
"""

import asyncio
import ctypes
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tenfold import bindings, errors
from tenfold.sdk import service
from tenfold.sdk.asgi import answers, protocol, wrap

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends us when our parent dies."""


class Hosted(wrap.Wrapped):
    """A wrapped app that drains by itself on SIGTERM, and only then lets its server stop.

    granian would wait for open streams until it is killed, and the app's shutdown would never run. It stops on SIGINT
    as well: so SIGTERM is ours to take, and SIGINT tells the server when it is time.
    """

    async def _serve_other(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if scope["type"] == "lifespan" and multiprocessing.parent_process() is not None:
            with _draining_on_sigterm(self.service):
                await super()._serve_other(scope, receive, _aloud(send))
        else:
            await super()._serve_other(scope, receive, send)


def application() -> Hosted:
    """The service's app, wrapped; a worker's too. Ends the process (exit code 1) when it cannot be had.

    A worker is the app with its lifespan and without its pages: whatever subscribed to messages on import handles them.
    """
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app = load()
        if bindings.is_worker():
            import_subscribers()
        found = wrapped(app)
        return Hosted(without_pages(found.app) if bindings.is_worker() else found.app, found.service)
    except errors.TenfoldError as error:
        print(f"tenfold: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def load() -> protocol.App:
    """The application that the bindings or this process's environment name. Raises BadBindings or BadInput."""
    app, factory = bindings.app_from_environment()
    if not app and not factory:
        path = bindings.path_from_environment()
        if path is None:
            raise errors.BadBindings(
                f"{bindings.VARIABLE} is not set: this is the entry for `tenfold up`; without the runtime let your "
                "server load your app itself, wrapped by tf.wrap(app)"
            )
        known = bindings.load(path).service
        app, factory = known.app, known.factory
        _import_from(known.directory)
    if factory:
        return _made(factory)
    return cast(protocol.App, _found(app))


def import_subscribers() -> None:
    """Import the modules of `[workers] imports`: their subscribers register. Raises BadInput, naming the module."""
    path = bindings.path_from_environment()
    for name in bindings.load(path).queue.imports if path is not None else ():
        try:
            importlib.import_module(name)
        except Exception as error:
            raise errors.BadInput(
                f"workers.imports: {name} does not import: {_story(error)}{_elsewhere(error)}"
            ) from error


def without_pages(app: protocol.App) -> protocol.App:
    """The app with nothing of it but its lifespan."""

    async def pageless(scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        if scope["type"] == "http":
            await answers.text(404, "this is a worker: it handles messages and serves no pages").give(send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": "this is a worker"})
        else:
            await app(scope, receive, send)

    return pageless


def wrapped(app: protocol.App) -> wrap.Wrapped:
    """The app, wrapped by the one `Tenfold` that it made, or by a fresh one when it made none."""
    if isinstance(app, wrap.Wrapped):
        return app
    known = list(service.made)
    if len(known) > 1:
        raise errors.BadInput(
            f"the app has made {len(known)} Tenfold objects, 1 expected; share one, or choose one with tf.wrap(app)"
        )
    return (known[0] if known else service.Tenfold()).wrap(app)


def die_with_parent() -> None:
    """End gracefully when the server's main process dies: else this worker would hold its port for ever.

    Until the server has set its own, SIGTERM ends the process at once: a worker inherits its parent's Python signal
    function, which would do nothing here, however long the app takes to import.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent.pid:
        raise SystemExit(1)


@contextmanager
def _draining_on_sigterm(served: wrap.Service) -> Iterator[None]:
    drains: list[asyncio.Task[None]] = []

    async def drain() -> None:
        try:
            await served.drain()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def begin() -> None:
        if not drains:
            drains.append(asyncio.create_task(drain(), name="tenfold-drain"))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, begin)
    yield
    for task in drains:
        task.cancel()


def _aloud(send: protocol.Send) -> protocol.Send:
    """Say ourselves why the app did not start: what the server logs is lost when the app configures logging anew."""

    async def said(message: protocol.Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            print(f"tenfold: the app did not start:\n{message.get('message', '')}", file=sys.stderr, flush=True)
            message = {**message, "message": ""}
        await send(message)

    return said


def _import_from(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _made(target: str) -> protocol.App:
    factory = cast(Callable[[], protocol.App], _found(target))
    try:
        return factory()
    except Exception as error:
        raise errors.BadInput(f"{target}() raised {_story(error)}{_elsewhere(error)}") from error


def _found(target: str) -> Any:
    """What `module:attribute` names."""
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise errors.BadInput(f"service.app: {target!r} found, MODULE:ATTRIBUTE expected, as in shop.web:app")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise errors.BadInput(f"{target} does not import: {_story(error)}{_elsewhere(error)}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise errors.BadInput(f"{target}: there is no {name!r} in {module_name}; is the name right?")
        found = getattr(found, name)
    if not callable(found):
        raise errors.BadInput(f"{target}: a {type(found).__name__} found, an ASGI application expected")
    return found


def _story(error: Exception) -> str:
    """The traceback from the app's own first line on: our lines and importlib's tell nobody anything."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not _is_plumbing(one.filename)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return f"{type(error).__name__}: {error}\n\n{''.join(lines)}".rstrip()


def _elsewhere(error: Exception) -> str:
    """The environment beside the app that has the module which is missing here, and what to write; else nothing."""
    name = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
    here = Path.cwd()
    for environment in (folder / one for folder in (here, *here.parents) for one in (".venv", "venv")):
        packages = [*environment.glob("lib/python*/site-packages")]
        if name and any((one / name).is_dir() or (one / f"{name}.py").is_file() for one in packages):
            is_beside = (environment.parent / "tenfold.toml").exists()
            python = f"{environment.name}/bin/python" if is_beside else f"{environment}/bin/python"
            return (
                f"\n\n{name} is installed in {environment}, and this is {sys.executable}: "
                f'write python = "{python}" into [service] of tenfold.toml'
            )
    return ""


def _is_plumbing(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or "/importlib/" in filename
