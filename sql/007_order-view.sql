-- Up Migration

-- What the topics say about each order, for whoever asks. Written by orderView.ts alone and rebuilt from the topics
-- with --rebuild, which fills a schema beside this one and then takes its place: all that is rebuilt lies in here. When
-- it was dropped, the rebuild runs this file once more.
CREATE SCHEMA order_view;

-- One row for each order, taken whole from the event that says most about it. Times are in milliseconds since 1970: an
-- order may carry any year that ISO 8601 can write.
CREATE TABLE order_view.orders (
  order_id        text PRIMARY KEY,
  status          smallint NOT NULL,
  -- Offset of that event; of two that say as much the first counts.
  log_offset      bigint NOT NULL,
  customer_id     text NOT NULL,
  currency        text NOT NULL,
  total_minor     bigint NOT NULL,
  placed_at_ms    bigint NOT NULL,
  updated_at_ms   bigint NOT NULL,
  -- JSON as text: jsonb refuses a NUL, which a message may contain.
  reasons         text,
  shipment_number text
);
CREATE INDEX orders_newest ON order_view.orders (placed_at_ms DESC, order_id DESC);
CREATE INDEX orders_of_customer ON order_view.orders (customer_id, placed_at_ms DESC, order_id DESC);
CREATE INDEX orders_by_status ON order_view.orders (status, placed_at_ms DESC, order_id DESC);

-- The timeline: a row for each event, known by its position. A record is about one order, so this one key, which also
-- finds the events of an order, makes a repetition impossible.
CREATE TABLE order_view.events (
  order_id       text NOT NULL,
  topic          smallint NOT NULL,
  partition      smallint NOT NULL,
  log_offset     bigint NOT NULL,
  label          smallint NOT NULL,
  -- Null for the usual one: order id, a slash, and the type.
  event_id       text,
  occurred_at_ms bigint NOT NULL,
  PRIMARY KEY (order_id, topic, partition, log_offset)
);

-- Topics and labels in short, for the rows above. Not rebuilt, so that a number means the same for ever.
CREATE TABLE IF NOT EXISTS order_view_names (
  id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE
);
