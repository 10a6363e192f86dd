-- Up Migration

CREATE TABLE customers (
  id      text PRIMARY KEY,
  name    text NOT NULL,
  email   text NOT NULL,
  tier    text NOT NULL CHECK (tier IN ('standard', 'silver', 'gold')),
  country text NOT NULL,
  blocked boolean NOT NULL DEFAULT false
);

CREATE TABLE products (
  sku              text PRIMARY KEY,
  name             text NOT NULL,
  unit_price_minor bigint NOT NULL,
  currency         text NOT NULL,
  withdrawn        boolean NOT NULL DEFAULT false
);

-- Per product: received = available + reserved + committed, and none of them is ever negative.
CREATE TABLE stock (
  sku              text PRIMARY KEY,
  received         bigint NOT NULL DEFAULT 0,
  available        bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
  reserved         bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  committed        bigint NOT NULL DEFAULT 0 CHECK (committed >= 0),
  -- At or below this many available, an order gets 'limited'.
  low_level        bigint NOT NULL DEFAULT 0 CHECK (low_level >= 0),
  CHECK (received = available + reserved + committed)
);

-- Each receipt of goods is a row; `cause` names what it was for, so that it is received once.
CREATE TABLE stock_receipts (
  cause       text NOT NULL,
  sku         text NOT NULL REFERENCES stock (sku),
  quantity    bigint NOT NULL CHECK (quantity > 0),
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (cause, sku)
);

-- What was decided about an order, with the event's bytes and the position that caused it, written in the same
-- transaction as the effect. The same position again: the bytes are published again. Another position: nothing.
CREATE TABLE inventory_outcomes (
  order_id   text NOT NULL,
  operation  text NOT NULL,
  source     text NOT NULL,
  event      text NOT NULL,
  note       text NOT NULL,
  decided_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_id, operation)
);

CREATE TABLE payment_outcomes (LIKE inventory_outcomes INCLUDING ALL);
