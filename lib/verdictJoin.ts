import type { Verdict } from './judges.ts'
import type { Offsets } from './work.ts'

/** An order that is waited for, or was decided lately. */
interface Entry<Order> {
  /** Of its OrderValidated, which is what verdicts name as their cause. */
  readonly offset: number
  /** Undefined while only verdicts have come, and again once it is decided. */
  order: Order | undefined
  dueMs: number
  /** Undefined until the order has come. */
  orderId: string | undefined
  /** By judge, in the order of the table. */
  readonly verdicts: (Verdict | undefined)[]
  /** By judge, the order that it says to have looked at. */
  readonly judged: (string | undefined)[]
  /** By judge, the offset of the event that said so. */
  readonly places: (number | undefined)[]
  missing: number
  isDecided: boolean
}

/** An order with what the judges said of it, in the order of their table; undefined where nothing was said in time. */
export interface Joined<Order> {
  readonly offset: number
  readonly order: Order
  readonly verdicts: readonly (Verdict | undefined)[]
}

export interface VerdictJoinOptions {
  /** The topic of the orders. */
  orders: string
  /** The topics of the verdicts. */
  verdicts: readonly string[]
  /** Where the task begins to read each of them. */
  starts: Offsets
}

/**
 * Joins the orders of one partition with their verdicts, in whatever order they come, and says of each order once that it
 * is ready: when all verdicts are there, or when it is overdue.
 *
 * It needs no store of its own. An order is known by the offset of its OrderValidated, which each verdict names. Orders
 * are given up in the order of their offsets: one that is overdue is cancelled only with all before it. So one number, the `floor`, says of every order below it that it is decided; and above it an order is
 * decided if and only if all of its verdicts were committed. Whoever takes over reads orders from the floor and verdicts
 * from the lowest that an order above the floor has, and knows all of it.
 */
export class VerdictJoin<Order> {
  readonly #options: VerdictJoinOptions
  readonly #entries = new Map<number, Entry<Order>>()
  /** Those with an order, by offset; what lies before `#head` is decided. */
  #queue: Entry<Order>[] = []
  #head = 0
  #ready: Entry<Order>[] = []
  /** Every order below this is here, was decided, or is none. */
  #position: number
  /** By topic of verdicts, the offset behind the last that was seen. */
  readonly #seen: number[]
  #kept: Offsets
  #keptAtMs = 0

  constructor(options: VerdictJoinOptions) {
    const { orders, verdicts, starts } = options
    this.#options = options
    this.#position = starts.get(orders) ?? 0
    this.#seen = verdicts.map((topic) => starts.get(topic) ?? 0)
    this.#kept = new Map(verdicts.map((topic) => [topic, starts.get(topic) ?? 0]))
  }

  /** Every order below this offset is decided. */
  get floor(): number {
    return this.#queue[this.#head]?.offset ?? this.#position
  }

  /** Orders that are not decided yet. */
  get open(): number {
    let open = 0
    for (let index = this.#head; index < this.#queue.length; index++)
      if (!this.#queue[index]!.isDecided) open++
    return open
  }

  /** @returns false when it is not the next one: it is here already, or was given up */
  addOrder(offset: number, orderId: string, order: Order, dueMs: number): boolean {
    if (offset < this.#position) return false
    this.#position = offset + 1
    const entry = this.#entryOf(offset)
    entry.orderId = orderId
    for (const [judge, judged] of entry.judged.entries()) {
      if (judged === undefined || judged === orderId) continue
      entry.verdicts[judge] = entry.places[judge] = entry.judged[judge] = undefined
      entry.missing++
    }
    entry.order = order
    entry.dueMs = dueMs
    this.#queue.push(entry)
    if (entry.missing === 0) this.#ready.push(entry)
    return true
  }

  /**
   * @param judge index into the topics of verdicts
   * @param cause the offset of the order
   * @param orderId the order that was judged: a header names the cause, which anybody could have written
   * @param place the offset of the verdict in its own topic
   * @returns false when its cause is another order
   */
  addVerdict(judge: number, cause: number, orderId: string, verdict: Verdict, place: number): boolean {
    this.#seen[judge] = Math.max(this.#seen[judge]!, place + 1)
    const known = this.#entries.get(cause)
    // Decided already, given up, or of a record that is no order.
    if (!known && cause < this.#position) return true
    const entry = known ?? this.#entryOf(cause)
    if (entry.orderId !== undefined && entry.orderId !== orderId) return false
    if (entry.verdicts[judge]) return true
    // Redriven: it lies before what was said to be needed.
    if (place < this.#kept.get(this.#options.verdicts[judge]!)!) this.#keptAtMs = 0
    entry.verdicts[judge] = verdict
    entry.judged[judge] = orderId
    entry.places[judge] = place
    if (--entry.missing === 0 && entry.order) this.#ready.push(entry)
    return true
  }

  #entryOf(offset: number): Entry<Order> {
    let entry = this.#entries.get(offset)
    if (!entry) {
      const judges = this.#options.verdicts.length
      entry = {
        offset,
        order: undefined,
        orderId: undefined,
        dueMs: Number.POSITIVE_INFINITY,
        verdicts: new Array(judges).fill(undefined),
        judged: new Array(judges).fill(undefined),
        places: new Array(judges).fill(undefined),
        missing: judges,
        isDecided: false,
      }
      this.#entries.set(offset, entry)
    }
    return entry
  }

  /** Whether an order is here and not forgotten yet. */
  has(offset: number): boolean {
    return this.#entries.get(offset)?.order !== undefined
  }

  /** Orders with all verdicts that are not settled yet: the same again until they are. */
  get ready(): Joined<Order>[] {
    return this.#ready as Joined<Order>[]
  }

  /** At most so many orders that are overdue by then, oldest first. To be asked when all that is ready is settled. */
  overdueAt(ms: number, most: number): Joined<Order>[] {
    const overdue: Joined<Order>[] = []
    for (let index = this.#head; index < this.#queue.length && overdue.length < most; index++) {
      const entry = this.#queue[index]!
      if (entry.isDecided) continue
      // Not past one that is not due: the floor could not tell that the later one was decided.
      if (entry.dueMs > ms) break
      overdue.push(entry as Joined<Order>)
    }
    return overdue
  }

  /** When the oldest order becomes overdue; Infinity without one. */
  get dueMs(): number {
    return this.#queue[this.#head]?.dueMs ?? Number.POSITIVE_INFINITY
  }

  /** These are decided, and nothing is said of them again. */
  settle(decided: readonly Joined<Order>[]): void {
    for (const { offset } of decided) {
      const entry = this.#entries.get(offset)!
      entry.isDecided = true
      entry.order = undefined
    }
    this.#ready = this.#ready.filter(({ isDecided }) => !isDecided)
    while (this.#queue[this.#head]?.isDecided) this.#entries.delete(this.#queue[this.#head++]!.offset)
    if (this.#head > 1_000 && this.#head > this.#queue.length / 2) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
  }

  /** Whether there are verdicts on records that have not come: on their way, or no orders. */
  get hasStrays(): boolean {
    return this.#entries.size > this.#queue.length - this.#head
  }

  /**
   * Forgets verdicts on records that are no orders.
   *
   * @param readTo by topic, where they ended, all read: those of the verdicts were looked at before that of the orders, so
   *   whatever the verdicts name is among these orders or is none
   */
  dropStrays(readTo: Offsets): void {
    const { orders, verdicts } = this.#options
    const ends = verdicts.map((topic) => readTo.get(topic)!)
    for (const { offset, order, isDecided, places } of this.#entries.values()) {
      if (order || isDecided) continue
      const isOld = places.every((place, judge) => place === undefined || place < ends[judge]!)
      if (isOld || offset < readTo.get(orders)!) this.#entries.delete(offset)
    }
  }

  /**
   * Where whoever takes over has to begin, by topic: orders exactly at the floor; verdicts at the lowest that is needed or
   * lower, since that is found by looking at all and is looked for once a second.
   */
  keepFrom(nowMs: number): Offsets {
    const { orders, verdicts } = this.#options
    if (nowMs - this.#keptAtMs > 1_000) {
      this.#keptAtMs = nowMs
      const lowest = [...this.#seen]
      for (const { places } of this.#entries.values()) {
        places.forEach((place, judge) => {
          if (place !== undefined && place < lowest[judge]!) lowest[judge] = place
        })
      }
      this.#kept = new Map(verdicts.map((topic, judge) => [topic, lowest[judge]!]))
    }
    return new Map([...this.#kept, [orders, this.floor]])
  }
}
