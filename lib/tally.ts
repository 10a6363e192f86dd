import type { InventoryUpdated, OrderCompleted, OrderValidated, PaymentEvent } from './events.ts'
import { JUDGE_NAMES, JUDGES, type Judge, type JudgeName } from './judges.ts'
import {
  DEAD_LETTER_HEADER,
  DROPPED_HEADER,
  formatPosition,
  headerText,
  parsePosition,
  SOURCE_HEADER,
} from './record.ts'
import { createOpener, type Opener } from './sealing.ts'
import { SettledLetters } from './settledLetters.ts'
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
  /** Dead letters of the validator; one that was redriven is worked on again and comes to a second end. */
  deadLettered: number
  redriven: number
  reserved: number
  notReserved: number
  committed: number
  released: number
  authorised: number
  declined: number
  captured: number
  voided: number
  confirmed: number
  cancelledOrders: number
  /** By the code of the reason: an order that was cancelled for two of them counts under both. */
  cancelled: Record<string, number>
  /** Booked revenue, by currency, in minor units. */
  revenueMinor: Record<string, number>
  /** Captured revenue, likewise. */
  capturedMinor: Record<string, number>
}

/** Who answers for each validated order. */
export type Answering = JudgeName | 'fulfilment'
export const WHOLE_LIFE: readonly Answering[] = [...JUDGE_NAMES, 'fulfilment']
/** The five scripts alone: no order is decided. */
export const FIRST_TIER: readonly Answering[] = ['inventory', 'payment']
const SETTLEMENTS = ['commit', 'capture', 'reservation', 'authorisation']

/** Which figure counts what inventory and payment say. */
const COUNTED_AS = {
  RESERVED: 'reserved',
  REJECTED: 'notReserved',
  COMMITTED: 'committed',
  RELEASED: 'released',
  PaymentProcessed: 'authorised',
  PaymentFailed: 'declined',
  PaymentCaptured: 'captured',
  PaymentVoided: 'voided',
} as const satisfies Record<InventoryUpdated['status'] | PaymentEvent['type'], keyof Figures>

/**
 * Follows the orders through the topics and keeps the books: how many came to which end, and whether
 *
 *   - every record of orders.raw ended exactly once (`validation`)
 *   - every validated order got exactly one verdict of each judge and one decision (each by its own name)
 *   - every confirmed order was committed once (`commit`) and captured once, with the total that was confirmed
 *     (`capture`), and no other was
 *   - every reservation and every authorisation was settled exactly once (`reservation`, `authorisation`): what is not
 *     committed or captured was released or voided
 *
 * It holds what is open and nothing else, and does not mind in which order the topics are read.
 */
export class Tally {
  readonly figures: Figures = {
    placed: 0,
    validated: 0,
    rejected: 0,
    deadLettered: 0,
    redriven: 0,
    reserved: 0,
    notReserved: 0,
    committed: 0,
    released: 0,
    authorised: 0,
    declined: 0,
    captured: 0,
    voided: 0,
    confirmed: 0,
    cancelledOrders: 0,
    cancelled: {},
    revenueMinor: {},
    capturedMinor: {},
  }
  /** How many pieces the confirmed orders have. */
  unitsConfirmed = 0
  /** When the last record was read that changed a figure. */
  changedAtMs = Date.now()
  readonly #answering: readonly Answering[]
  readonly #open: Opener
  readonly #balances: ReadonlyMap<string, Balance>
  /** Dead letters of the validator, by partition. */
  readonly #settled = new Map<number, SettledLetters>()
  readonly #readers: Record<string, (record: TopicRecord, position: string) => void>

  /** @param answering who takes part; of the others nothing is expected */
  constructor(topics: TopicTable, answering: readonly Answering[] = WHOLE_LIFE) {
    const settlements = answering.includes('fulfilment') ? SETTLEMENTS : []
    this.#answering = answering
    this.#open = createOpener(topics)
    this.#balances = new Map(
      ['validation', ...answering, ...settlements].map((name) => [name, new Balance()]),
    )
    this.#readers = {
      [topics.ordersRaw.name]: (_, position) => {
        this.figures.placed++
        this.#cause('validation', position)
      },
      [topics.ordersValidated.name]: (record, position) => this.#takeValidated(record, position),
      [topics.ordersRejected.name]: (record) => {
        this.figures.rejected++
        this.#answer('validation', sourceOf(record))
      },
      [topics.deadLetters.validator.name]: (record) => {
        this.figures.deadLettered++
        this.#answer('validation', sourceOf(record))
      },
      [topics.retries.validator.name]: (record, position) =>
        this.#takeRetry(record, position, topics.deadLetters.validator.name),
      [topics.ordersCompleted.name]: (record, position) => this.#takeDecision(record, position),
    }
    for (const name of JUDGE_NAMES) {
      this.#readers[topics[`${name}Events`].name] = (record) => this.#takeEvent(name, record)
    }
  }

  /** The topics to be read, each from where the run began. */
  get topics(): string[] {
    return Object.keys(this.#readers)
  }

  take(topic: string, partition: number, records: readonly TopicRecord[]): void {
    const reader = this.#readers[topic]!
    for (const record of this.#open(topic, records)) {
      reader(record, formatPosition(topic, partition, record.offset))
    }
    this.changedAtMs = Date.now()
  }

  /** Whether every order that was placed has come to all of its ends, once. */
  get isEven(): boolean {
    return [...this.#balances.values()].every(({ isEven }) => isEven)
  }

  /** One line for each thing that does not add up, with the first positions concerned. */
  complaints(): string[] {
    return [...this.#balances].flatMap(([stage, balance]) =>
      balance.odd(5).map(({ position, balance: count }) => {
        const what = count > 0 ? 'has no outcome' : `has ${-count} outcome(s) too many, or was never read`
        return `${stage}: ${position} ${what}`
      }),
    )
  }

  #cause(stage: string, position: string): void {
    this.#balances.get(stage)?.cause(position)
  }

  #answer(stage: string, position: string): void {
    this.#balances.get(stage)?.answer(position)
  }

  #takeValidated(record: TopicRecord, position: string): void {
    const { currency, total } = read<OrderValidated>(record)
    this.figures.validated++
    add(this.figures.revenueMinor, currency, total)
    this.#answer('validation', sourceOf(record))
    for (const name of this.#answering) this.#cause(name, position)
  }

  /** What is redriven is worked on again under its first position, and so has one more end to come to. */
  #takeRetry(record: TopicRecord, position: string, deadLetterTopic: string): void {
    const letter = parsePosition(headerText(record.headers, DEAD_LETTER_HEADER) ?? '')
    if (letter?.topic !== deadLetterTopic) {
      // Nobody's redrive: it becomes a dead letter itself.
      this.#cause('validation', position)
      return
    }
    const settled = this.#settled.get(letter.partition) ?? new SettledLetters()
    this.#settled.set(letter.partition, settled)
    if (!settled.settle(letter.offset) || record.headers[DROPPED_HEADER] !== undefined) return
    this.figures.redriven++
    this.#cause('validation', sourceOf(record))
  }

  #takeEvent(name: JudgeName, record: TopicRecord): void {
    const event = read<InventoryUpdated | PaymentEvent>(record)
    const { orderId } = event
    const source = sourceOf(record)
    if ((JUDGES[name] as Judge).read(event)) this.#answer(name, source)
    const kind = event.type === 'InventoryUpdated' ? event.status : event.type
    if (kind in COUNTED_AS) this.figures[COUNTED_AS[kind]]++
    if (kind === 'RESERVED') this.#cause('reservation', orderId)
    else if (kind === 'PaymentProcessed') this.#cause('authorisation', orderId)
    else if (kind === 'COMMITTED' || kind === 'RELEASED') this.#answer('reservation', orderId)
    else if (kind === 'PaymentCaptured' || kind === 'PaymentVoided') this.#answer('authorisation', orderId)
    if (kind === 'COMMITTED') this.#answer('commit', source)
    if (event.type === 'PaymentCaptured') {
      add(this.figures.capturedMinor, event.currency, event.amount)
      this.#answer('capture', `${source} (${event.amount} ${event.currency})`)
    }
  }

  #takeDecision(record: TopicRecord, position: string): void {
    const event = read<OrderCompleted>(record)
    this.#answer('fulfilment', sourceOf(record))
    if (event.type === 'OrderConfirmed') {
      this.figures.confirmed++
      for (const { quantity } of event.items) this.unitsConfirmed += quantity
      this.#cause('commit', position)
      this.#cause('capture', `${position} (${event.total} ${event.currency})`)
    } else {
      this.figures.cancelledOrders++
      for (const code of new Set(event.reasons.map((reason) => reason.code))) {
        add(this.figures.cancelled, code, 1)
      }
    }
  }
}

function add(sums: Record<string, number>, name: string, amount: number): void {
  sums[name] = (sums[name] ?? 0) + amount
}

function read<Event>({ value }: TopicRecord): Event {
  return JSON.parse(value!.toString()) as Event
}

function sourceOf({ headers }: TopicRecord): string {
  return headerText(headers, SOURCE_HEADER) ?? 'a record without a source'
}
