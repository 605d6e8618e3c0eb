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

-- Who is logged in: the digest of the cookie's token, never the token.
create table shop_login (
    token_digest bytea primary key,
    user_id uuid not null references shop_user (id) on delete cascade,
    expires_at timestamptz not null
);
create index on shop_login (user_id);

create table shop_product (
    id uuid primary key default uuidv7(),
    name text not null,
    description text not null,
    picture text not null,
    price_cents integer not null check (price_cents > 0),
    stock integer not null check (stock >= 0)
);

-- One row for each time something was put into a cart. `reference` comes from the client and is not unique on
-- purpose: a write that happened twice must show, not be hidden by a constraint.
create table shop_cart_item (
    id uuid primary key default uuidv7(),
    user_id uuid not null references shop_user (id) on delete cascade,
    product_id uuid not null references shop_product (id),
    quantity integer not null check (quantity > 0),
    reference uuid not null
);
create index on shop_cart_item (user_id);

-- `reference`: as above.
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

-- migrate:down
drop table shop_order_item;
drop table shop_order;
drop table shop_cart_item;
drop table shop_product;
drop table shop_login;
drop table shop_user;
