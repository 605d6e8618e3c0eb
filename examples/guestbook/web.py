"""A guestbook: the whole app. `tenfold up` serves it, wraps it, and knows where the database is."""

from html import escape

from fastapi import FastAPI, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from tenfold import Tenfold, Transaction

tf = Tenfold()
app = FastAPI()


async def sign(tx: Transaction, name: str) -> None:
    await tx.execute("insert into guest (name) values ($1)", name)


@app.get("/")
async def read() -> HTMLResponse:
    guests = await tf.db.fetch("select name from guest order by id desc limit 20")  # a replica, fresh enough
    names = "".join(f"<li>{escape(guest['name'])}" for guest in guests)
    return HTMLResponse(f"<form method=post><input name=name><button>Sign</button></form><ul>{names}</ul>")


@app.post("/")
async def write(name: str = Form(min_length=1, max_length=80)) -> RedirectResponse:
    await tf.db.run(sign, name)  # the primary; waits for a new one when it dies, and commits exactly once
    return RedirectResponse("/", status_code=303)
