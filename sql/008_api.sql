-- Up Migration

-- What the API sent to Kafka at a time. state: 0 under way, 1 acknowledged, 2 nobody knows. A batch of a process that
-- was killed stays under way; after a while it counts as one that nobody knows of.
CREATE TABLE api_batches (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  begun_at timestamptz NOT NULL DEFAULT now(),
  state    smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

-- Each order that the API took, written before it is sent; removed after 24 hours.
CREATE TABLE api_orders (
  order_id        text PRIMARY KEY,
  batch_id        bigint NOT NULL,
  accepted_at_ms  bigint NOT NULL,
  -- Who sent it: a fingerprint of the token, empty where none is asked for.
  caller          text NOT NULL,
  idempotency_key text,
  -- Of the request that came with the key.
  fingerprint     text
);
CREATE UNIQUE INDEX api_orders_key ON api_orders (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- For those that are removed. (BRIN would be smaller, but new rows take the place of removed ones, among older ones.)
CREATE INDEX api_orders_batch ON api_orders (batch_id);
