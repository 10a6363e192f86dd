-- Up Migration

-- Each change of a product is a new version. A version above the one that was published last has still to be said on
-- the topic; what was there before this migration is said once more.
ALTER TABLE products
  ADD COLUMN version           bigint NOT NULL DEFAULT 1,
  ADD COLUMN published_version bigint NOT NULL DEFAULT 0;

CREATE INDEX products_to_publish ON products (sku) WHERE published_version < version;

-- So many come in when an order leaves a product at or below its low level. 0: none, it can be sold out.
ALTER TABLE stock ADD COLUMN restock_quantity bigint NOT NULL DEFAULT 0 CHECK (restock_quantity >= 0);
