"""The frameworks' contract, written for Django (ASGI): settings, views and URLs in one file.

Served by tests/engines/test_frameworks.py. Django has no lifespan and no WebSockets.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator

import django
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.http import require_GET, require_POST

from tenfold import Tenfold, Transaction, current, errors

settings.configure(
    ALLOWED_HOSTS=["shop.test"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", "django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup(set_prefix=False)

tf = Tenfold()


def text(words: str, status: int = 200) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain")


async def hello(_: HttpRequest) -> HttpResponse:
    return text("hello")


async def trace(_: HttpRequest) -> HttpResponse:
    serving = current()
    return text(serving.trace if serving else "")


def sync_trace(_: HttpRequest) -> HttpResponse:
    serving = current()
    return text(serving.trace if serving else "")


async def scheme(request: HttpRequest) -> HttpResponse:
    return text("https" if request.is_secure() else "http")


async def seconds(_: HttpRequest) -> HttpResponse:
    return text(str(tf.settings.request_seconds))


async def add(tx: Transaction, words: str) -> None:
    await tx.execute("insert into note (text) values ($1)", words)


async def notes(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        await tf.db.run(add, request.body.decode())
        return text("noted", 201)
    return JsonResponse([row["text"] for row in await tf.db.fetch("select text from note order by text")], safe=False)


def sync_notes(request: HttpRequest) -> HttpResponse:
    """From sync code, by asgiref: what is awaited runs on the loop that serves the request."""
    if request.method == "POST":
        async_to_sync(tf.db.run)(add, request.body.decode())
        return text("noted", 201)
    rows = async_to_sync(tf.db.fetch)("select text from note order by text")
    return JsonResponse([row["text"] for row in rows], safe=False)


def sync_misuse(_: HttpRequest) -> HttpResponse:
    try:
        asyncio.run(tf.db.fetchval("select 1"))
    except errors.MisuseError as error:
        return text(str(error), 409)
    return text("it went well")


@require_POST
async def upload(request: HttpRequest) -> HttpResponse:
    digest = hashlib.sha256()
    while part := request.read(65536):
        digest.update(part)
    return text(digest.hexdigest())


async def hang(_: HttpRequest) -> HttpResponse:
    try:
        await asyncio.Event().wait()
    finally:
        print("what hung was cancelled", flush=True)
    return text("never")


def sync_hang(_: HttpRequest) -> HttpResponse:
    time.sleep(3)
    print("a thread cannot be cancelled", flush=True)
    return text("too late")


@require_GET
async def ticks(_: HttpRequest) -> HttpResponseBase:
    async def events() -> AsyncIterator[str]:
        try:
            for number in range(100):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.1)
        finally:
            print("the ticks have ended", flush=True)

    # Django's GZipMiddleware would hold events back until it has a block of them.
    headers = {"Content-Encoding": "identity"}
    return StreamingHttpResponse(events(), content_type="text/event-stream", headers=headers)


async def lines(_: HttpRequest) -> HttpResponseBase:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return StreamingHttpResponse(parts(), content_type="text/plain")


def sync_lines(_: HttpRequest) -> HttpResponseBase:
    def parts() -> Iterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def busy(_: HttpRequest) -> HttpResponse:
    raise errors.TryAgain("the database is busy", after_seconds=2)


def sync_busy(_: HttpRequest) -> HttpResponse:
    raise errors.TryAgain("the database is busy", after_seconds=2)


async def fail(_: HttpRequest) -> HttpResponse:
    raise RuntimeError("it failed at once")


async def fail_late(_: HttpRequest) -> HttpResponseBase:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a beginning"
        raise RuntimeError("it failed in the middle")

    return StreamingHttpResponse(parts(), content_type="text/plain")


urlpatterns = [
    path("", hello),
    path("trace", trace),
    path("sync-trace", sync_trace),
    path("scheme", scheme),
    path("seconds", seconds),
    path("busy", busy),
    path("sync-busy", sync_busy),
    path("notes", notes),
    path("sync-notes", sync_notes),
    path("sync-misuse", sync_misuse),
    path("upload", upload),
    path("hang", hang),
    path("sync-hang", sync_hang),
    path("ticks", ticks),
    path("lines", lines),
    path("sync-lines", sync_lines),
    path("fail", fail),
    path("fail-late", fail_late),
    path("inner/", include([path("trace", trace), path("hello", hello)])),
]

app = get_asgi_application()
