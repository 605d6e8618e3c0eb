-- migrate:up
create table guest (id uuid primary key default uuidv7(), name text not null);

-- migrate:down
drop table guest;
