-- migrate:up
create table book (
    id uuid primary key default uuidv7(),
    title text not null,
    author text not null,
    review_count integer not null default 0,
    stars_total integer not null default 0,
    reference uuid not null unique
);

create table review (
    id uuid primary key default uuidv7(),
    book_id uuid not null references book,
    stars integer not null check (stars between 1 and 5),
    words text not null,
    reference uuid not null  -- the reader's own name for it; a review that is written twice would be there twice
);

create index review_of_book on review (book_id);
create index review_by_reference on review (reference);

-- migrate:down
drop table review;
drop table book;
