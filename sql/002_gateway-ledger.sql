-- Up Migration

-- The simulated payment gateway's own books. Nobody else writes here; the pipeline only ever speaks HTTP to it.
CREATE SCHEMA gateway;

-- The first definitive answer to each idempotency key. The request is kept so that the same key with another
-- request is refused.
CREATE TABLE gateway.ledger (
  idempotency_key  text PRIMARY KEY,
  operation        text NOT NULL,
  order_id         text NOT NULL,
  amount_minor     bigint NOT NULL CHECK (amount_minor > 0),
  currency         text NOT NULL,
  status           text NOT NULL,
  -- Of the authorisation that was made, captured or voided; a void without one is a tombstone and has none.
  authorisation_id text,
  reason           text,
  answered_at      timestamptz NOT NULL DEFAULT now(),
  CHECK (
    (operation = 'authorise' AND status IN ('authorised', 'declined', 'refused'))
    OR (operation = 'capture' AND status IN ('captured', 'refused'))
    OR (operation = 'void' AND status IN ('voided', 'refused'))
  ),
  CHECK (status NOT IN ('authorised', 'captured') OR authorisation_id IS NOT NULL),
  CHECK ((status IN ('declined', 'refused')) = (reason IS NOT NULL))
);

CREATE INDEX ledger_by_order ON gateway.ledger (order_id);

-- Several front ends of the gateway write at once. Each locks the orders of its batch; these hold whatever they do.
CREATE UNIQUE INDEX one_authorisation_per_order ON gateway.ledger (order_id) WHERE status = 'authorised';
CREATE UNIQUE INDEX captured_or_voided_once ON gateway.ledger (order_id) WHERE status IN ('captured', 'voided');
