-- Up Migration

CREATE TABLE fraud_outcomes (LIKE inventory_outcomes INCLUDING ALL);
CREATE TABLE fulfilment_outcomes (LIKE inventory_outcomes INCLUDING ALL);

-- Numbers can be left out: a decision that is made again takes a new one.
CREATE SEQUENCE shipment_numbers;
