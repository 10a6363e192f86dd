/** Finds the records of one order: where they are known to be, and what else there is by searching its partition. */
import { orderIdIn } from './deadLetterQueue.ts'
import { isWholeWay } from './orderWay.ts'
import type { OrderWayReader, PlacedRecord } from './orderWayReader.ts'
import { causeOf, formatPosition, parsePosition } from './record.ts'
import { groupsOf, isOfRouting, orderTopics, type TopicSettings, type TopicTable } from './topics.ts'

export interface SearchOptions {
  reader: OrderWayReader
  topics: TopicTable
  topicPrefix: string
  /** How long after its latest sign an order's next event may come, before it is not looked for any more. */
  aheadMs: number
  signal: AbortSignal
}

export interface WantedOrder {
  orderId: string
  /** Where its events are known to be. */
  positions: readonly string[]
  /** When it was placed, about, as far as somebody knows. */
  atMs: number | undefined
  /** How far an earlier search for it came. */
  before?: SearchProgress | undefined
}

/** So that whoever watches an order searches each stretch once. */
export interface SearchProgress {
  positions: readonly string[]
  /** By topic: what lies before was seen. */
  next: ReadonlyMap<string, number>
}

export interface FoundOrder {
  partition: number
  records: PlacedRecord[]
  progress: SearchProgress
  /** Where the search came to its bounds, in words. */
  notes: string[]
}

/** The clocks of who writes may differ by this. */
const SLACK_MS = 1_000
const STRETCH_BYTES = 256 * 1024
/** Of orders.raw, backwards from its end. */
const BACKWARDS_RECORDS = 50_000
const BACKWARDS_STEP = 5_000
/** Of all topics together, forwards. */
const FORWARDS_RECORDS = 100_000
const SEARCH_WITHIN_MS = 3_000
/** An order has about ten events; somebody who places the same again and again has no end of them. */
const MAX_RECORDS = 500

/** @throws UnavailableError when Kafka does not answer */
export async function searchOrder(options: SearchOptions, wanted: WantedOrder): Promise<FoundOrder> {
  return new Search(options, wanted).run()
}

class Search {
  readonly #options: SearchOptions
  readonly #wanted: WantedOrder
  readonly #key: Buffer
  readonly #orders: readonly string[]
  readonly #letters: readonly string[]
  readonly #found = new Map<string, PlacedRecord>()
  readonly #next: Map<string, number>
  readonly #notes: string[] = []
  readonly #deadlineMs = Date.now() + SEARCH_WITHIN_MS
  #partition = 0

  constructor(options: SearchOptions, wanted: WantedOrder) {
    this.#options = options
    this.#wanted = wanted
    this.#key = Buffer.from(wanted.orderId)
    this.#next = new Map(wanted.before?.next)
    this.#orders = orderTopics(options.topics).map(({ name }) => name)
    this.#letters = letterTopics(options.topics).map(({ name }) => name)
  }

  async run(): Promise<FoundOrder> {
    const { reader } = this.#options
    const { orderId, positions, atMs, before } = this.#wanted
    await this.#readKnown([...positions, ...(before?.positions ?? [])])
    const first = this.#found.values().next().value
    this.#partition = first?.partition ?? (await reader.partitionOf(orderId))
    if (!first) await this.#searchPlaced()
    // Dead letters are kept for longer than the orders themselves.
    if (this.#found.size > 0) await this.#searchOn([...(this.#isWhole ? [] : this.#orders), ...this.#letters])
    else await this.#searchOn(this.#letters, atMs ?? 0)
    // What was found names its cause.
    await this.#readKnown([])
    const progress = { positions: [...this.#found.keys()], next: this.#next }
    return { partition: this.#partition, records: [...this.#found.values()], progress, notes: this.#notes }
  }

  /** The records at these positions, and what caused them, back to the order as it was placed. */
  async #readKnown(positions: readonly string[]): Promise<void> {
    const asked = new Set<string>()
    const wanted = (): string[] => {
      const causes = [...this.#found.values()].map((record) => {
        const cause = causeOf(record)
        return cause ? formatPosition(cause.topic, cause.partition, cause.offset) : ''
      })
      return [...positions, ...causes].filter((one) => !this.#found.has(one) && !asked.has(one))
    }
    for (let next = wanted(); next.length > 0 && asked.size < MAX_RECORDS; next = wanted()) {
      const reads = [...new Set(next)].slice(0, MAX_RECORDS).map(async (position) => {
        asked.add(position)
        const parsed = parsePosition(position)
        if (!parsed || ![...this.#orders, ...this.#letters].includes(parsed.topic)) return
        const { topic, partition, offset } = parsed
        const record = await this.#options.reader.readAt(topic, partition, offset)
        if (record) this.#take([record])
      })
      await Promise.all(reads)
    }
  }

  /** @returns whether one of them is of this order */
  #take(records: readonly PlacedRecord[]): boolean {
    let isFound = false
    for (const record of records) {
      if (!this.#isOfOrder(record) || this.#found.size >= MAX_RECORDS) continue
      this.#found.set(formatPosition(record.topic, record.partition, record.offset), record)
      isFound = true
    }
    return isFound
  }

  #isOfOrder({ topic, key, value }: PlacedRecord): boolean {
    if (key !== null) return key.equals(this.#key)
    return this.#letters.includes(topic) && orderIdIn(value) === this.#wanted.orderId
  }

  /** Looks for the order as it was placed: from the time given on, or else backwards from the end. */
  async #searchPlaced(): Promise<void> {
    const { atMs } = this.#wanted
    const { reader, topics } = this.#options
    const topic = topics.ordersRaw.name
    const offsetAt = async (at: 'beginning' | 'end' | { timestampMs: number }) =>
      (await reader.offsets([topic], this.#partition, at)).get(topic)!
    const end = await offsetAt('end')
    if (atMs !== undefined) {
      const start = await offsetAt({ timestampMs: atMs - SLACK_MS })
      const { lastMs, isWhole } = await this.#searchRange(topic, start, end, FORWARDS_RECORDS)
      if (this.#found.size === 0) this.#noteRange(atMs, isWhole ? undefined : lastMs)
      return
    }
    const low = await offsetAt('beginning')
    const lowest = Math.max(low, end - BACKWARDS_RECORDS)
    let backToMs: number | undefined
    let start = end
    while (start > lowest && this.#found.size === 0 && !this.#isOver) {
      const stop = start
      start = Math.max(lowest, stop - BACKWARDS_STEP)
      backToMs = (await this.#searchRange(topic, start, stop, BACKWARDS_STEP)).firstMs ?? backToMs
    }
    if (this.#found.size > 0 || start <= low) return
    const back = backToMs === undefined ? `offset ${start}` : new Date(backToMs).toISOString()
    this.#notes.push(
      `searched partition ${this.#partition} of orders.raw back to ${back}: give a time for an older order`,
    )
  }

  #noteRange(fromMs: number, toMs: number | undefined): void {
    const until = toMs === undefined ? 'its end' : new Date(toMs).toISOString()
    this.#notes.push(
      `searched partition ${this.#partition} of orders.raw from ${new Date(fromMs).toISOString()} to ${until}: give another time`,
    )
  }

  /** All of a stretch of one topic, as far as the bounds allow. */
  async #searchRange(
    topic: string,
    start: number,
    end: number,
    maxRecords: number,
  ): Promise<{ firstMs: number | undefined; lastMs: number | undefined; isWhole: boolean }> {
    let firstMs: number | undefined
    let lastMs: number | undefined
    let position = start
    let seen = 0
    while (position < end && seen < maxRecords && !this.#isOver) {
      const stretches = await this.#options.reader.readOn(
        this.#partition,
        new Map([[topic, position]]),
        4 * STRETCH_BYTES,
      )
      const { records, next } = stretches.get(topic)!
      firstMs ??= records[0]?.timestampMs
      lastMs = records.at(-1)?.timestampMs ?? lastMs
      seen += records.length
      const isFound = this.#take(records)
      if (isFound || next <= position) break
      position = next
    }
    return { firstMs, lastMs, isWhole: position >= end }
  }

  /**
   * What else there is of it, from its first sign on: its events until its way is whole or none is to be expected any
   * more, and its dead letters to the end.
   */
  async #searchOn(topics: readonly string[], fromMs = this.#firstMs - SLACK_MS): Promise<void> {
    const { reader } = this.#options
    const [starts, ends] = await Promise.all([
      reader.offsets(topics, this.#partition, { timestampMs: fromMs }),
      reader.offsets(topics, this.#partition, 'end'),
    ])
    const open = new Map<string, number>()
    for (const topic of topics) {
      // What lies before the last that is known of a topic is known, too.
      const start = Math.max(starts.get(topic)!, this.#knownUpTo(topic), this.#next.get(topic) ?? 0)
      if (start < ends.get(topic)!) open.set(topic, start)
    }
    let seen = 0
    while (open.size > 0 && seen < FORWARDS_RECORDS && !this.#isOver) {
      for (const [topic, { records, next }] of await reader.readOn(this.#partition, open, STRETCH_BYTES)) {
        seen += records.length
        this.#take(records)
        this.#next.set(topic, next)
        const isBehind = this.#orders.includes(topic) && (records.at(-1)?.timestampMs ?? 0) > this.#untilMs
        if (next <= open.get(topic)! || next >= ends.get(topic)! || isBehind) open.delete(topic)
        else open.set(topic, next)
      }
      if (this.#isWhole) for (const topic of this.#orders) open.delete(topic)
    }
    if (open.size > 0) {
      const names = [...open.keys()].map((topic) => topic.slice(this.#options.topicPrefix.length)).join(', ')
      this.#notes.push(`there is more in ${names} than was searched: records of it may be missing here`)
    }
  }

  #knownUpTo(topic: string): number {
    const offsets = [...this.#found.values()].flatMap((record) =>
      record.topic === topic ? [record.offset + 1] : [],
    )
    return Math.max(0, ...offsets)
  }

  get #firstMs(): number {
    return Math.min(...[...this.#found.values()].map(({ timestampMs }) => timestampMs))
  }

  get #untilMs(): number {
    const latestMs = Math.max(...[...this.#found.values()].map(({ timestampMs }) => timestampMs))
    return latestMs + this.#options.aheadMs
  }

  get #isWhole(): boolean {
    return isWholeWay([...this.#found.values()], this.#options.topics)
  }

  get #isOver(): boolean {
    return this.#options.signal.aborted || Date.now() > this.#deadlineMs
  }
}

/** Dead letters and redrives of the groups that look into orders. */
export function letterTopics(topics: TopicTable): TopicSettings[] {
  const groups = groupsOf(topics).filter((group) => !isOfRouting(group))
  return groups.flatMap((group) => [topics.deadLetters[group], topics.retries[group]])
}
