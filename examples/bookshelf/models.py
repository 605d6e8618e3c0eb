"""The bookshelf's models: ordinary SQLAlchemy. The tables are made by the migrations."""

from uuid import UUID

from sqlalchemy import FetchedValue, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "book"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
    title: Mapped[str]
    author: Mapped[str]
    review_count: Mapped[int] = mapped_column(default=0)
    stars_total: Mapped[int] = mapped_column(default=0)
    reference: Mapped[UUID]
    reviews: Mapped[list["Review"]] = relationship(back_populates="book", order_by="Review.id.desc()")


class Review(Base):
    __tablename__ = "review"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
    book_id: Mapped[UUID] = mapped_column(ForeignKey("book.id"))
    stars: Mapped[int]
    words: Mapped[str]
    reference: Mapped[UUID]
    book: Mapped[Book] = relationship(back_populates="reviews")
