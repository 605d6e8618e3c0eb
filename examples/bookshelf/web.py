"""A bookshelf: FastAPI and SQLAlchemy models on tenfold. Reads go to replicas, writes happen exactly once."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from models import Book, Review
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from tenfold import Tenfold
from tenfold.sqlalchemy import Sessions

tf = Tenfold()
sessions = Sessions(tf)
app = FastAPI(title="Bookshelf")


class NewBook(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    author: str = Field(min_length=1, max_length=200)
    reference: UUID


class NewReview(BaseModel):
    stars: int = Field(ge=1, le=5)
    words: str = Field(max_length=2000)
    reference: UUID


async def reading() -> AsyncIterator[AsyncSession]:
    """A session that only reads: from a replica that has what this visitor wrote."""
    async with sessions.reading() as session:
        yield session


async def writing() -> AsyncIterator[AsyncSession]:
    """A session that is committed when the endpoint has returned."""
    async with sessions() as session, session.begin():
        yield session


Reading = Annotated[AsyncSession, Depends(reading, scope="function")]
Writing = Annotated[AsyncSession, Depends(writing, scope="function")]  # before the response begins, not after


@sessions.retrying
async def put_up(session: AsyncSession, new: NewBook) -> dict[str, Any]:
    book = Book(**new.model_dump())
    session.add(book)
    await session.flush()
    return shown(book)


@sessions.retrying
async def write_review(session: AsyncSession, book_id: UUID, new: NewReview) -> dict[str, Any]:
    book = await session.get(Book, book_id, with_for_update=True)
    if book is None:
        raise HTTPException(404, "no such book")
    session.add(Review(book=book, **new.model_dump()))
    book.review_count += 1
    book.stars_total += new.stars
    return shown(book)


def shown(book: Book) -> dict[str, Any]:
    stars = round(book.stars_total / book.review_count, 1) if book.review_count else None
    return {
        "id": str(book.id),
        "title": book.title,
        "author": book.author,
        "stars": stars,
        "reviews": book.review_count,
    }


@app.get("/books")
async def list_books(session: Reading) -> list[dict[str, Any]]:
    return [shown(book) for book in await session.scalars(select(Book).order_by(Book.id.desc()).limit(20))]


@app.get("/books/{book_id}")
async def show_book(book_id: UUID, session: Reading) -> dict[str, Any]:
    with_reviews = joinedload(Book.reviews)  # one statement: the count and the reviews are of one moment
    book = await session.get(Book, book_id, options=[with_reviews])
    if book is None:
        raise HTTPException(404, "no such book")
    reviews = [{"stars": one.stars, "words": one.words, "reference": str(one.reference)} for one in book.reviews]
    return {**shown(book), "all": reviews}


@app.post("/books", status_code=201)
async def add_book(new: NewBook) -> dict[str, Any]:
    return await put_up(new)


@app.post("/books/{book_id}/reviews", status_code=201)
async def add_review(book_id: UUID, new: NewReview) -> dict[str, Any]:
    return await write_review(book_id, new)


@app.put("/books/{book_id}/title")
async def correct_title(book_id: UUID, title: str, session: Writing) -> dict[str, Any]:
    book = await session.get(Book, book_id)
    if book is None:
        raise HTTPException(404, "no such book")
    book.title = title
    return shown(book)
