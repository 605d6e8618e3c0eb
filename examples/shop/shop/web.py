"""The shop's ASGI application: `shop.web:app`, named in tenfold.toml."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shop import api, origins, pages, refusals, sink, statistics, welcome
from shop.service import tf

SUBSCRIBERS = (statistics, welcome)
"""Modules that handle messages: importing them is what registers their functions."""


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Around everything that this process serves or handles."""
    async with sink.listening():
        yield


def create_app() -> FastAPI:
    """The application, not wrapped yet."""
    made = FastAPI(
        title="Larch & Lantern", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=lifespan
    )
    made.include_router(api.router)
    made.include_router(pages.router)
    made.add_middleware(origins.SameOrigin)
    made.add_exception_handler(refusals.Refusal, refuse)
    made.add_exception_handler(HTTPException, refuse)
    made.add_exception_handler(RequestValidationError, correct)
    return made


async def refuse(request: Request, error: Exception) -> Response:
    """Say no: in JSON to a program, with a page to a person, who is asked to log in where that would help."""
    refusal = error if isinstance(error, refusals.Refusal) else refusals.Refusal(str(getattr(error, "detail", error)))
    status = getattr(error, "status_code", refusal.status)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": str(refusal)}, status)
    if isinstance(refusal, refusals.NotLoggedIn):
        return pages.go(f"/login?next={request.url.path if request.method == 'GET' else '/'}")
    message = str(refusals.NotFound() if status == 404 else refusal)
    return pages.render(request, "problem.html", status=status, message=message)


async def correct(request: Request, error: Exception) -> Response:
    """Say what is wrong with what was sent."""
    assert isinstance(error, RequestValidationError)
    wrong = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()]
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": wrong}, 422)
    if any(one["loc"][0] in ("path", "query") for one in error.errors()):
        return await refuse(request, refusals.NotFound())
    message = " ".join(f"{str(one['loc'][-1]).capitalize()}: {one['msg']}." for one in error.errors())
    return pages.render(request, "problem.html", status=422, message=message)


app = tf.wrap(create_app())
