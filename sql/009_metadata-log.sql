-- Up Migration

CREATE SCHEMA IF NOT EXISTS command_center;

-- The metadata log: what became of each message in the Command Center, never what is in it. Written by metadataLog.ts
-- alone, which also makes a partition for each day in UTC (hops_20261121) and drops it after a week.
CREATE TABLE command_center.hops (
  at                 timestamptz NOT NULL,
  -- Where the topic of hops says it. With the time, which a key of a partitioned table needs, and which that record has.
  log_partition      smallint NOT NULL,
  log_offset         bigint NOT NULL,
  index              integer NOT NULL,
  request_id         text NOT NULL,
  worker_name        text NOT NULL,
  sender             text NOT NULL,
  source_topic       text NOT NULL,
  source_offset      bigint NOT NULL,
  -- Null where no route is known for it.
  target_topic       text,
  route_id           integer,
  success            boolean NOT NULL,
  error              text,
  processing_time_ms bigint NOT NULL,
  PRIMARY KEY (at, log_partition, log_offset, index)
) PARTITION BY RANGE (at);

CREATE INDEX hops_of_request ON command_center.hops (request_id, at);
