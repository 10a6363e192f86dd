-- Up Migration

-- The simulated payment gateway's own books. Nobody else writes here; the pipeline only ever speaks HTTP to it.
CREATE SCHEMA gateway;

-- The first definitive answer to each idempotency key. The request is kept so that the same key with another
-- request is refused.
CREATE TABLE gateway.ledger (
  idempotency_key  text PRIMARY KEY,
  operation        text NOT NULL CHECK (operation IN ('authorise', 'capture', 'void')),
  order_id         text NOT NULL,
  amount_minor     bigint NOT NULL,
  currency         text NOT NULL,
  status           text NOT NULL CHECK (status IN ('authorised', 'declined', 'captured', 'voided', 'refused')),
  authorisation_id text,
  reason           text,
  answered_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ledger_by_order ON gateway.ledger (order_id);
