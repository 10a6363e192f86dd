-- Up Migration

-- A gateway knows a request by its idempotency key and nothing else: asked for one order under two keys, it charges
-- twice. Ours does too, or nobody could see that the pipeline never asks so.
DROP INDEX gateway.one_authorisation_per_order;
