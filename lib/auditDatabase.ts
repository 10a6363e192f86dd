import pg from 'pg'
import type { AuditBook } from './auditBook.ts'
import type { AuditRows, LedgerRow, OutcomeRow } from './auditRows.ts'
import { OUTCOME_TABLES } from './auditSlots.ts'
import type { StockRow } from './auditStock.ts'
import { ConfigurationError, PipelineError, UnavailableError } from './errors.ts'

const PAGE_ROWS = 5_000
const IDS_PER_LOOK = 1_000
const UNDEFINED_TABLE = '42P01'

/** Counts and amounts as float8, which is exact up to 2^53 and arrives as a number. */
const STOCK = `SELECT sku, received::float8, available::float8, reserved::float8, committed::float8 FROM stock`
const RECEIPTS = `SELECT sku, sum(quantity)::float8 AS quantity FROM stock_receipts GROUP BY sku`
const OUTCOMES = `SELECT order_id AS "orderId", operation, source, event FROM`
const LEDGER = `SELECT idempotency_key AS "idempotencyKey", operation, order_id AS "orderId",
  amount_minor::float8 AS "amountMinor", currency, status, authorisation_id AS "authorisationId" FROM gateway.ledger`
const COUNT = `SELECT ${[...OUTCOME_TABLES, 'gateway.ledger', 'stock']
  .map((table) => `(SELECT count(*) FROM ${table})`)
  .join(' + ')} AS rows`

/** The database and the ledger as they are at one moment, however long it takes to read them. */
export class DatabaseSnapshot {
  readonly #client: pg.Client
  /** About how many rows there are. */
  readonly rows: number

  private constructor(client: pg.Client, rows: number) {
    this.#client = client
    this.rows = rows
  }

  /** @throws UnavailableError, ConfigurationError when there are no tables */
  static async open(url: string): Promise<DatabaseSnapshot> {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, keepAlive: true })
    // What breaks is told by the statement under way.
    client.on('error', () => undefined)
    return telling(async () => {
      await client.connect()
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      // The first statement is the moment.
      const { rows } = await client.query<{ rows: string }>(COUNT)
      return new DatabaseSnapshot(client, Number(rows[0]!.rows))
    }).catch(async (error) => {
      await client.end().catch(() => undefined)
      throw error
    })
  }

  /**
   * Takes all rows, page by page, and ends the snapshot.
   *
   * @param onRows called after each page; what it throws ends the reading
   */
  async readInto(book: AuditBook, rows: AuditRows, onRows: (count: number) => void): Promise<void> {
    await telling(async () => {
      await this.#page<StockRow>(STOCK, onRows, (row) => book.stock.takeRow(row))
      await this.#page<{ sku: string; quantity: number }>(
        RECEIPTS,
        () => undefined,
        (row) => book.stock.takeReceipts(row),
      )
      for (const table of OUTCOME_TABLES) {
        await this.#page<OutcomeRow>(`${OUTCOMES} ${table}`, onRows, (row) => rows.takeOutcome(table, row))
      }
      await this.#page<LedgerRow>(LEDGER, onRows, (row) => rows.takeLedger(row))
      await this.#client.query('COMMIT')
    })
  }

  /**
   * A second look, as of now, at the orders whose rows the snapshot does not have.
   *
   * @param onLook called before each statement; what it throws ends the look
   */
  async lookAgain(rows: AuditRows, onLook: () => void): Promise<void> {
    let ids: string[] = []
    const look = async () => {
      onLook()
      for (const table of OUTCOME_TABLES) {
        const found = await this.#client.query<OutcomeRow>(`${OUTCOMES} ${table} WHERE order_id = ANY ($1)`, [
          ids,
        ])
        for (const row of found.rows) rows.takeOutcome(table, row)
      }
      const found = await this.#client.query<LedgerRow>(`${LEDGER} WHERE order_id = ANY ($1)`, [ids])
      for (const row of found.rows) rows.takeLedger(row)
      ids = []
    }
    await telling(async () => {
      for (const id of rows.findMissing()) {
        if (ids.push(id) >= IDS_PER_LOOK) await look()
      }
      if (ids.length > 0) await look()
    })
  }

  async close(): Promise<void> {
    await this.#client.end()
  }

  async #page<Row extends pg.QueryResultRow>(
    select: string,
    onRows: (count: number) => void,
    take: (row: Row) => void,
  ): Promise<void> {
    await this.#client.query(`DECLARE page NO SCROLL CURSOR FOR ${select}`)
    for (;;) {
      const { rows } = await this.#client.query<Row>(`FETCH ${PAGE_ROWS} FROM page`)
      if (rows.length === 0) break
      for (const row of rows) take(row)
      onRows(rows.length)
    }
    await this.#client.query('CLOSE page')
  }
}

async function telling<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === UNDEFINED_TABLE) {
      const message = `the database has no tables yet (${error.message}): start the services once, they make them`
      throw new ConfigurationError(message, { cause: error })
    }
    throw error instanceof PipelineError ? error : new UnavailableError('PostgreSQL', error)
  }
}
