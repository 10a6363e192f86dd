/** The routes of the Command Center, as PostgreSQL keeps them. */
import { type Database, query } from './database.ts'
import { ConfigurationError } from './errors.ts'
import { forwardedTopics, type TopicTable } from './topics.ts'

export interface Route {
  routeId: number
  workerName: string
  sourceTopic: string
  targetTopic: string
  isEnabled: boolean
  /** 1 for a new one, and one more with each change. */
  version: number
}

export const WORKER_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/

const COLUMNS = `route_id AS "routeId", worker_name AS "workerName", source_topic AS "sourceTopic",
  target_topic AS "targetTopic", enabled AS "isEnabled", version`

/** The routes for what comes in this inbox, by the name of the worker. @throws UnavailableError */
export function listRoutes(database: Database, sourceTopic: string): Promise<Route[]> {
  return query<Route>(database, {
    name: 'list-routes',
    text: `SELECT ${COLUMNS} FROM command_center.routes WHERE source_topic = $1 ORDER BY worker_name`,
    values: [sourceTopic],
  })
}

/**
 * A route to each topic of the pipeline, for the workers that read it: there from the start. Those that exist stay as
 * they are, wherever they lead.
 *
 * @throws UnavailableError
 */
export async function addDefaultRoutes(database: Database, topics: TopicTable): Promise<void> {
  const targets = forwardedTopics(topics)
  await query(database, {
    text: `INSERT INTO command_center.routes (source_topic, worker_name, target_topic)
           SELECT $1, worker_name, target_topic FROM unnest($2::text[], $3::text[]) AS wanted (worker_name, target_topic)
           ON CONFLICT (source_topic, worker_name) DO NOTHING`,
    values: [topics.inbox.name, targets.map(({ address }) => address), targets.map(({ name }) => name)],
  })
}

/** @throws ConfigurationError when the worker has a route; UnavailableError */
export async function addRoute(
  database: Database,
  { workerName, sourceTopic, targetTopic }: Pick<Route, 'workerName' | 'sourceTopic' | 'targetTopic'>,
): Promise<Route> {
  const [added] = await query<Route>(database, {
    text: `INSERT INTO command_center.routes (source_topic, worker_name, target_topic) VALUES ($1, $2, $3)
           ON CONFLICT (source_topic, worker_name) DO NOTHING RETURNING ${COLUMNS}`,
    values: [sourceTopic, workerName, targetTopic],
  })
  if (added) return added
  throw new ConfigurationError(`${workerName} has a route already: see npm run routes -- list`)
}

/** @throws ConfigurationError when there is no such route; UnavailableError */
export async function switchRoute(
  database: Database,
  { workerName, sourceTopic, isEnabled }: Pick<Route, 'workerName' | 'sourceTopic' | 'isEnabled'>,
): Promise<Route> {
  const [changed] = await query<Route>(database, {
    text: `UPDATE command_center.routes
           SET enabled = $3, version = version + (enabled <> $3)::integer,
             changed_at = CASE WHEN enabled = $3 THEN changed_at ELSE now() END
           WHERE source_topic = $1 AND worker_name = $2 RETURNING ${COLUMNS}`,
    values: [sourceTopic, workerName, isEnabled],
  })
  if (changed) return changed
  throw new ConfigurationError(`there is no route for ${workerName}: see npm run routes -- list`)
}
