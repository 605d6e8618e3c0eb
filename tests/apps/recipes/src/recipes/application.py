"""Puts the parts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI

from recipes.routes import kitchen, pages
from recipes.settings import from_environment


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(app.state.settings.database_url, min_size=1, max_size=5) as pool:
        app.state.pool = pool
        yield


def create_app() -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.state.settings = from_environment()
    app.include_router(pages.router)
    app.include_router(kitchen.router, prefix="/kitchen")
    return app
