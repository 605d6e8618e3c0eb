"""What comes in and what goes out."""

from pydantic import BaseModel, ConfigDict, Field


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)


class Change(BaseModel):
    is_done: bool


class ShownTask(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    is_done: bool
