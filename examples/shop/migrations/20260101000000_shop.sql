-- migrate:up
create table shop_user (
    id uuid primary key default uuidv7(),
    email text not null unique,
    name text not null,
    password_cost smallint not null,
    password_salt bytea not null,
    password_check bytea not null,
    created_at timestamptz not null default now()
);

create table shop_product (
    id uuid primary key default uuidv7(),
    name text not null,
    description text not null,
    picture text not null,
    price_cents integer not null check (price_cents > 0),
    stock integer not null check (stock >= 0)
);

-- `reference` comes from the client and is not unique on purpose: a write that happened twice must show, not be hidden
-- by a constraint.
create table shop_order (
    id uuid primary key default uuidv7(),
    user_id uuid not null references shop_user (id),
    reference uuid not null,
    total_cents bigint not null,
    created_at timestamptz not null default now()
);
create index on shop_order (user_id, id);
create index on shop_order (reference);

create table shop_order_item (
    order_id uuid not null references shop_order (id) on delete cascade,
    product_id uuid not null references shop_product (id),
    name text not null,
    quantity integer not null,
    price_cents integer not null,
    primary key (order_id, product_id)
);

-- Which items of carts were ordered. Carts are in the visitors' sessions; here each item can be ordered only once.
create table shop_ordered (
    reference uuid primary key,
    order_id uuid not null
);

-- How often each product was bought, and when last.
create table shop_bought (
    product_id uuid primary key references shop_product (id) on delete cascade,
    times bigint not null,
    last_at timestamptz not null default now()
);

-- The shop's figures, a row a day.
create table shop_day (
    day date primary key,
    accounts bigint not null default 0,
    orders bigint not null default 0,
    revenue_cents bigint not null default 0
);

-- What the shop's own mail sink has taken, while no SMTP server is configured. `number` is the mail's Message-ID.
create table shop_mail (
    number text primary key,
    recipient text not null,
    subject text not null,
    body text not null,
    taken_at timestamptz not null default now()
);

-- migrate:down
drop table shop_mail;
drop table shop_day;
drop table shop_bought;
drop table shop_ordered;
drop table shop_order_item;
drop table shop_order;
drop table shop_product;
drop table shop_user;
