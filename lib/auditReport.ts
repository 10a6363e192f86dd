/** What stands out, and where: the order (or product) concerned, what is wrong with it, and where that was seen. */
export interface Offender {
  /** An order id, a SKU, or for a record of neither its position. */
  id: string
  what: string
  /** `topic/partition/offset`, or `table[key]`. */
  seen: string[]
}

/** Which of the totals what a check finds is added to. */
export type Harm = 'lost' | 'duplicated' | 'chargedTwice'

export interface CheckResult {
  name: string
  /** The guarantee that it belongs to; see README and docs/DESIGN.md. */
  guarantee: number
  /** How many records, orders, products or rows were looked at. */
  lookedAt: number
  /** How many of them are not as they must be. */
  found: number
  ok: boolean
  /** Why it was not made, when it was not: it is then neither looked at nor found wanting. */
  skipped?: string
  /** What a reader should know, though it is no failure. */
  note?: string
  harm?: Harm
  /** The first of what was found. */
  offenders: Offender[]
}

export interface AuditTotals {
  placed: number
  validated: number
  rejected: number
  /** Orders that got their stock and were paid for: reserved and authorised. */
  wentThrough: number
  confirmed: number
  cancelled: number
  /** Dead letters that nobody has redriven or dropped. */
  deadLettersOpen: number
  /** Orders that have not come to all of their ends, where that is no failure yet. */
  underWay: number
  lost: number
  duplicated: number
  chargedTwice: number
  /** Sums in minor units, by currency. */
  validatedMinor: Record<string, number>
  authorisedMinor: Record<string, number>
  capturedMinor: Record<string, number>
}

/** What `npm run verify -- --json` prints. */
export interface AuditReport {
  ok: boolean
  drained: boolean
  startedAt: string
  seconds: number
  /** Committed records that were looked at, by topic. */
  records: Record<string, number>
  /** Rows of the database and of the ledger that were looked at. */
  rows: number
  totals: AuditTotals
  checks: CheckResult[]
}

const MAX_OFFENDERS = 5

/** Gathers what one check finds. */
export class Finding {
  readonly #definition: { name: string; guarantee: number; harm?: Harm }
  lookedAt = 0
  found = 0
  note: string | undefined
  skipped: string | undefined
  readonly #offenders: Offender[] = []

  constructor(name: string, guarantee: number, harm?: Harm) {
    this.#definition = { name, guarantee, ...(harm && { harm }) }
  }

  /** @param describe is asked for the first few alone */
  add(describe: () => Offender): void {
    this.found++
    if (this.#offenders.length < MAX_OFFENDERS) this.#offenders.push(describe())
  }

  get result(): CheckResult {
    const { lookedAt, found, note, skipped } = this
    // A check that was not made has looked at nothing and found nothing.
    if (skipped !== undefined) {
      return { ...this.#definition, lookedAt: 0, found: 0, ok: true, skipped, offenders: [] }
    }
    return {
      ...this.#definition,
      lookedAt,
      found,
      ok: found === 0,
      ...(note !== undefined && { note }),
      offenders: this.#offenders,
    }
  }
}

/** What comes from outside and may steer a terminal is not for it to say. */
export function plain(text: string): string {
  return text.replace(/\p{C}/gu, ' ').slice(0, 64)
}

/** How many were found by the checks of one harm. */
export function sumHarm(checks: readonly CheckResult[], harm: Harm): number {
  return checks.reduce((sum, check) => sum + (check.harm === harm ? check.found : 0), 0)
}
