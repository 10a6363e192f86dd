-- Up Migration

-- What fraud rules know of a customer, `customer/<id>`, and of the shop as each partition shows it,
-- `partition/<number>`. One row for each, of a size that does not grow with the orders; every order of a customer
-- changes its row, so half of each page is left free for that.
CREATE TABLE fraud_history (
  subject         text PRIMARY KEY,
  -- Of orders that did not fail.
  orders          bigint NOT NULL DEFAULT 0,
  units           bigint NOT NULL DEFAULT 0,
  -- By currency: {"EUR": {"orders": 2, "sumMinor": 3998}}
  spent           jsonb NOT NULL DEFAULT '{}',
  -- Of all orders: the minute of event time that is counted, since 1970, its orders, those of the minute before, and
  -- how many there usually are.
  window_minute   bigint NOT NULL DEFAULT 0,
  window_orders   bigint NOT NULL DEFAULT 0,
  previous_orders bigint NOT NULL DEFAULT 0,
  usual_orders    double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
