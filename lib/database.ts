import { fileURLToPath } from 'node:url'
import { runner as migrate } from 'node-pg-migrate'
import pg from 'pg'
import { sleep } from './async.ts'
import { describe, UnavailableError } from './errors.ts'
import type { Logger } from './log.ts'

export type Database = pg.Pool
export type Client = pg.PoolClient

const MIGRATIONS = fileURLToPath(new URL('../sql', import.meta.url))
/** Any number of ours: whoever holds it migrates, the others wait. */
const MIGRATION_LOCK = 4_071_969

/** bigint columns hold counts and minor units, all below 2^53. */
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/**
 * A pool of connections.
 *
 * The time limits keep one process from holding up the others: a lock that does not come in 5 s is given up, and
 * a process that was stopped in the middle of a transaction loses it after 3 s, and with it a hot product's lock.
 */
export function openDatabase(url: string, connections: number, log: Logger): Database {
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    // With the wait before the next try, all that passes before a database that is back is noticed.
    connectionTimeoutMillis: 2_500,
    // Ours, beside the server's: a host that vanishes says nothing.
    query_timeout: 10_000,
    keepAlive: true,
    options:
      '-c lock_timeout=5000 -c statement_timeout=5000 -c idle_in_transaction_session_timeout=3000 -c timezone=UTC',
  })
  // A connection that breaks while nobody uses it; whoever uses the next one sees the error itself.
  pool.on('error', (error) => log.debug(`an idle connection to PostgreSQL broke: ${describe(error)}`))
  // Nor may one that breaks while it is in use and between two statements end the process.
  pool.on('connect', (client) => {
    client.on('error', (error) => log.debug(`a connection to PostgreSQL broke: ${describe(error)}`))
  })
  return pool
}

/**
 * Brings the tables up to date, however many processes try at once, and waits for the database if it is away.
 */
export async function migrateDatabase(database: Database, log: Logger, signal?: AbortSignal): Promise<void> {
  for (let attempt = 1; !signal?.aborted; attempt++) {
    try {
      await runMigrations(database)
      return
    } catch (error) {
      const classified = classify(error)
      if (!(classified instanceof UnavailableError)) throw error
      if (attempt % 20 === 1) log.warn(`${classified.message} - waiting for it`)
      await sleep(500, signal)
    }
  }
}

async function runMigrations(database: Database): Promise<void> {
  // Of its own, without the time limits: whoever waits for the one that migrates waits long. The lock ends with it.
  const client = new pg.Client({
    connectionString: database.options.connectionString!,
    connectionTimeoutMillis: 5_000,
  })
  // What breaks is told by the statement under way.
  client.on('error', () => undefined)
  await client.connect()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK])
    await migrate({
      dbClient: client,
      dir: MIGRATIONS,
      direction: 'up',
      migrationsTable: 'migrations',
      // Ours, above, waits; the one built in gives up.
      noLock: true,
      logger: { debug: () => undefined, info: () => undefined, warn: console.warn, error: () => undefined },
    })
  } finally {
    await client.end()
  }
}

/**
 * Runs `work` in a transaction.
 *
 * @throws UnavailableError when another try can help; whatever `work` threw otherwise
 */
export async function inTransaction<Result>(
  database: Database,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  const client = await attempt(() => database.connect())
  try {
    await attempt(() => client.query('BEGIN'))
    const result = await work(client)
    await attempt(() => client.query('COMMIT'))
    client.release()
    return result
  } catch (error) {
    // Closing the connection rolls back, and works when the connection is what broke.
    client.release(true)
    throw error
  }
}

async function attempt<Result>(operation: () => Promise<Result>): Promise<Result> {
  try {
    return await operation()
  } catch (error) {
    throw classify(error)
  }
}

/** One statement. @throws UnavailableError when another try can help */
export async function query<Row extends pg.QueryResultRow>(
  database: Database | Client,
  statement: pg.QueryConfig,
): Promise<Row[]> {
  return (await attempt(() => database.query<Row>(statement))).rows
}

/**
 * What the driver throws can be tried again (a connection breaks in a hundred ways), but for data that PostgreSQL will
 * never take (class 22: a value out of range or of the wrong form; class 23 apart from unique violations: a
 * constraint). A unique violation means that somebody else did the same at the same time, and a second look will find
 * it. A missing table is no fault of a record.
 */
function classify(error: unknown): unknown {
  const code = error instanceof pg.DatabaseError ? error.code : undefined
  const isDataError = code !== undefined && /^2[23]/.test(code) && code !== '23505'
  return isDataError ? error : new UnavailableError('PostgreSQL', error)
}
