"""tf.session beside Django, whose `request.session` stays Django's own."""

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tenfold import Tenfold, bindings

pytestmark = pytest.mark.anyio

SERVICE = bindings.Service(name="shop", secret="ab" * 32)
tf = Tenfold(database="postgres://app:x@127.0.0.1:1/shop", name="shop", secret=SERVICE.secret)


async def in_async(request: HttpRequest) -> HttpResponse:
    session = await tf.session(request)
    session["n"] = session.get("n", 0) + 1
    return JsonResponse({"n": session["n"], "is_djangos": hasattr(request, "session")})


def in_sync(request: HttpRequest) -> HttpResponse:
    session = async_to_sync(tf.session)(request)
    session["n"] = session.get("n", 0) + 10
    return JsonResponse({"n": session["n"]})


urlpatterns = [path("async", in_async), path("sync", in_sync)]


async def test_views_of_both_kinds_share_the_session() -> None:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["shop.test"], ROOT_URLCONF=__name__, SECRET_KEY="only for tests")
    app = tf.wrap(get_asgi_application())
    tf.inflight.open()
    tf.sessions.update(bindings.Sessions(store="memory"), SERVICE)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.test") as client:
        found = [(await client.get(one)).json() for one in ("/async", "/sync", "/async", "/sync")]
    tf.inflight.close()

    assert [1, 11, 12, 22] == [one["n"] for one in found]
    assert not found[0]["is_djangos"]
