-- migrate:up
create table job (reference uuid not null);

-- migrate:down
drop table job;
