-- Up Migration

CREATE SCHEMA IF NOT EXISTS command_center;

-- Where the Command Center forwards what is sent to a worker. Every change makes a new version.
CREATE TABLE command_center.routes (
  route_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_topic text NOT NULL,
  worker_name  text NOT NULL,
  target_topic text NOT NULL,
  enabled      boolean NOT NULL DEFAULT true,
  version      integer NOT NULL DEFAULT 1,
  changed_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (source_topic, worker_name)
);
