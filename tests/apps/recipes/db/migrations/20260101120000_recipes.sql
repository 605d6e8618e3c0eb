-- migrate:up
create table recipe (
  id bigint generated always as identity primary key,
  title text not null,
  steps text not null
);

-- migrate:down
drop table recipe;
