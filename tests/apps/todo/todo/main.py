"""The API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from .database import engine, session
from .models import Base, Task
from .schemas import Change, NewTask, ShownTask

Session = Annotated[AsyncSession, Depends(session)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.execute(text("select pg_advisory_xact_lock(20260101)"))
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(title="To do", lifespan=lifespan)


@app.get("/")
async def index(db: Session) -> dict[str, int]:
    tasks = (await db.scalars(select(Task))).all()
    return {"open": sum(not task.is_done for task in tasks), "done": sum(task.is_done for task in tasks)}


@app.get("/tasks", response_model=list[ShownTask])
async def tasks(db: Session) -> Sequence[Task]:
    return (await db.scalars(select(Task).order_by(Task.id))).all()


@app.post("/tasks", response_model=ShownTask, status_code=201)
async def add(new: NewTask, db: Session) -> Task:
    task = Task(title=new.title)
    db.add(task)
    await db.commit()
    return task


@app.patch("/tasks/{number}", response_model=ShownTask)
async def change(number: int, wanted: Change, db: Session) -> Task:
    task = await db.get(Task, number)
    if task is None:
        raise HTTPException(404, "no such task")
    task.is_done = wanted.is_done
    await db.commit()
    return task
