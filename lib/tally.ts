import type { InventoryUpdated, OrderValidated, PaymentEvent } from './events.ts'
import { formatPosition, headerText, SOURCE_HEADER } from './record.ts'
import type { TopicRecord } from './topicReader.ts'
import type { TopicTable } from './topics.ts'

/**
 * Checks that each cause has exactly one answer, by position, and holds only what is open: a cause counts +1, an
 * answer -1, and at 0 the position is forgotten. What is left when all has been read is a cause without an answer
 * (lost) or an answer too many (done twice, or without a cause).
 */
export class Balance {
  readonly #open = new Map<string, number>()

  cause(position: string): void {
    this.#add(position, 1)
  }

  answer(position: string): void {
    this.#add(position, -1)
  }

  get isEven(): boolean {
    return this.#open.size === 0
  }

  /** The first positions that are not even: above 0 unanswered, below 0 answered too often. */
  odd(most: number): { position: string; balance: number }[] {
    return [...this.#open].slice(0, most).map(([position, balance]) => ({ position, balance }))
  }

  #add(position: string, amount: number): void {
    const balance = (this.#open.get(position) ?? 0) + amount
    if (balance === 0) this.#open.delete(position)
    else this.#open.set(position, balance)
  }
}

/** The figures of a run, in the form that `npm start -- --json` prints. */
export interface Figures {
  placed: number
  validated: number
  rejected: number
  deadLettered: number
  reserved: number
  notReserved: number
  authorised: number
  declined: number
  /** Booked revenue, by currency, in minor units. */
  revenueMinor: Record<string, number>
}

/**
 * Follows the orders through the topics and keeps the books: how many came to which end, and whether every record
 * of orders.raw ended exactly once and every validated order got exactly one verdict of each kind.
 */
export class Tally {
  readonly figures: Figures = {
    placed: 0,
    validated: 0,
    rejected: 0,
    deadLettered: 0,
    reserved: 0,
    notReserved: 0,
    authorised: 0,
    declined: 0,
    revenueMinor: {},
  }
  /** What was to be answered by whom. */
  readonly balances = { validation: new Balance(), inventory: new Balance(), payment: new Balance() }
  /** When the last record was read that changed a figure. */
  changedAtMs = Date.now()
  readonly #readers: Record<string, (record: TopicRecord, position: string) => void>

  constructor(topics: TopicTable) {
    const { figures, balances } = this
    this.#readers = {
      [topics.ordersRaw.name]: (_, position) => {
        figures.placed++
        balances.validation.cause(position)
      },
      [topics.ordersValidated.name]: (record, position) => {
        const { currency, total } = read<OrderValidated>(record)
        figures.validated++
        figures.revenueMinor[currency] = (figures.revenueMinor[currency] ?? 0) + total
        balances.validation.answer(sourceOf(record))
        balances.inventory.cause(position)
        balances.payment.cause(position)
      },
      [topics.ordersRejected.name]: (record) => {
        figures.rejected++
        balances.validation.answer(sourceOf(record))
      },
      [topics.deadLetters.validator.name]: (record) => {
        figures.deadLettered++
        balances.validation.answer(sourceOf(record))
      },
      [topics.inventoryEvents.name]: (record) => {
        if (read<InventoryUpdated>(record).status === 'RESERVED') figures.reserved++
        else figures.notReserved++
        balances.inventory.answer(sourceOf(record))
      },
      [topics.paymentEvents.name]: (record) => {
        if (read<PaymentEvent>(record).type === 'PaymentProcessed') figures.authorised++
        else figures.declined++
        balances.payment.answer(sourceOf(record))
      },
    }
  }

  /** The topics to be read, each from where the run began. */
  get topics(): string[] {
    return Object.keys(this.#readers)
  }

  take(topic: string, partition: number, records: readonly TopicRecord[]): void {
    const reader = this.#readers[topic]!
    for (const record of records) reader(record, formatPosition(topic, partition, record.offset))
    this.changedAtMs = Date.now()
  }

  /** Whether every order that was placed has come to all of its ends, once. */
  get isEven(): boolean {
    return Object.values(this.balances).every(({ isEven }) => isEven)
  }

  /** One line for each thing that does not add up, with the first positions concerned. */
  complaints(): string[] {
    return Object.entries(this.balances).flatMap(([stage, balance]) =>
      balance.odd(5).map(({ position, balance: count }) => {
        const what = count > 0 ? 'has no outcome' : `has ${-count} outcome(s) too many, or was never read`
        return `${stage}: ${position} ${what}`
      }),
    )
  }
}

function read<Event>({ value }: TopicRecord): Event {
  return JSON.parse(value!.toString()) as Event
}

function sourceOf({ headers }: TopicRecord): string {
  return headerText(headers, SOURCE_HEADER) ?? 'a record without a source'
}
