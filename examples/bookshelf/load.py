"""What the bookshelf's visitors do, for `tenfold load`. After every write they look whether it is there."""

from typing import Any

from tenfold.traffic import User, Write, journey

CHECKS = {
    "book": "select reference, count(*) from book where reference = any($1::uuid[]) group by 1",
    "review": "select reference, count(*) from review where reference = any($1::uuid[]) group by 1",
}
"""By kind of write: how often each reference is in the database. `tenfold load --verify` asks."""


@journey(weight=5)
async def browse(user: User) -> None:
    """The shelf, and a book or two."""
    books = await list_books(user)
    for book in user.random.sample(books, min(2, len(books))):
        await user.get(f"/books/{book['id']}", name="book")


@journey(weight=1)
async def put_up(user: User) -> None:
    """A new book, and it is on the shelf."""
    book = Write("book")
    body = {"title": f"Volume {user.random.randint(1, 999)}", "author": f"Reader {user.number}"}
    answer = await user.post(
        "/books", name="new book", json={**body, "reference": book.reference}, write=book, expect={201}
    )
    shown = await user.get(f"/books/{answer.json()['id']}", name="own book", expect={200, 404})
    user.sees(book, {book.reference} if shown.status == 200 else ())


@journey(weight=3)
async def review(user: User) -> None:
    """A review: it is among the book's, and was counted with it. Without a key: `sessions.run` repeats by itself."""
    books = await list_books(user)
    if not books:
        return
    path = f"/books/{user.random.choice(books)['id']}"
    written = Write("review", is_keyed=False)
    body = {"stars": user.random.randint(1, 5), "words": "as I remember it", "reference": written.reference}
    await user.post(f"{path}/reviews", name="new review", json=body, write=written, expect={201})
    book = (await user.get(path, name="own review")).json()
    user.sees(written, [one["reference"] for one in book["all"]])
    if book["reviews"] != len(book["all"]):
        user.wrong(f"{book['reviews']} reviews counted, {len(book['all'])} shown")


async def list_books(user: User) -> list[dict[str, Any]]:
    return list((await user.get("/books", name="shelf")).json())
