import type { Amounts } from './amounts.ts'
import { DeadLetterBooks } from './auditDeadLetters.ts'
import { HopBooks } from './auditHops.ts'
import { OrderTable } from './auditOrders.ts'
import { Places, Positions } from './auditPositions.ts'
import { Finding } from './auditReport.ts'
import { Stage } from './auditStage.ts'
import { type OrderTopic, type StageDefinition, stagesOf } from './auditStages.ts'
import { StockBooks } from './auditStock.ts'
import { VerdictTable } from './auditVerdicts.ts'
import type { BoundsByPartition } from './topicBounds.ts'
import { type GroupName, groupsOf, listTopics, type TopicTable } from './topics.ts'

/**
 * What the topics and the rows say, kept in columns of numbers, so that millions of records take little memory.
 * lib/auditIntake.ts takes records, lib/auditRows.ts rows, lib/auditChecks.ts judges.
 */
export class AuditBook {
  readonly topics: TopicTable
  readonly orders: OrderTable
  readonly stock = new StockBooks()
  readonly places = new Places()
  readonly stages: readonly Stage[]
  /** Of every topic. */
  readonly positions: ReadonlyMap<string, Positions>
  /** Whether all history is there, from the first record on. */
  readonly isWhole: boolean
  readonly raw: Positions
  readonly validated: Positions
  readonly rejected: Positions
  /** Amounts by cell; NaN for a record of orders.raw that is no order. */
  readonly rawTotal: Float64Array
  readonly rawCurrency: Uint8Array
  readonly rawLines: Uint32Array
  /** When it was sent, by the record's own timestamp. */
  readonly placedAtMs: Float64Array
  readonly total: Float64Array
  readonly currency: Uint8Array
  readonly linesFingerprint: Uint32Array
  /** Where the lines of a validated order stand in `stock`. */
  readonly lines: Uint32Array
  /** The cell of orders.raw that a validated order came from, plus 1. */
  readonly rawCell: Int32Array
  readonly verdicts: VerdictTable
  readonly deadLetters: ReadonlyMap<GroupName, DeadLetterBooks>
  /** Of the Command Center, where orders are routed. */
  readonly hops: HopBooks | undefined
  readonly recordsByTopic = new Map<string, number>()
  readonly sums = {
    validated: new Map() as Amounts,
    /** By the ledger. */
    authorised: new Map() as Amounts,
    captured: new Map() as Amounts,
    confirmed: new Map() as Amounts,
  }
  readonly values = new Finding('records hold an event of their topic', 1)
  readonly keys = new Finding('records have their order id as key', 1)
  readonly causes = new Finding('events have a cause, of the same order', 1)
  readonly lineSums = new Finding('totals are the sum of the lines', 4)
  readonly priceParts = new Finding('the parts of a price add up to it', 4)
  readonly #topicNumbers: ReadonlyMap<string, number>

  /** @param bounds of all topics of {@link auditedTopics}: what lies beyond them counts as late */
  constructor(topics: TopicTable, bounds: BoundsByPartition) {
    this.topics = topics
    const names = auditedTopics(topics)
    this.positions = new Map(
      names.map((name) => {
        const known = bounds.get(name)
        if (!known) throw new Error(`${name} is in none of the WAVES of lib/audit.ts`)
        return [name, new Positions(name, known)]
      }),
    )
    this.#topicNumbers = new Map(names.map((name) => [name, this.places.register(name)]))
    this.isWhole = ![...this.positions.values()].some(({ isTrimmed }) => isTrimmed)
    this.raw = this.positionsOf(topics.ordersRaw.name)
    this.validated = this.positionsOf(topics.ordersValidated.name)
    this.rejected = this.positionsOf(topics.ordersRejected.name)
    this.orders = new OrderTable(Math.max(this.raw.size, this.validated.size))
    this.rawTotal = new Float64Array(this.raw.size)
    this.rawCurrency = new Uint8Array(this.raw.size)
    this.rawLines = new Uint32Array(this.raw.size)
    this.placedAtMs = new Float64Array(this.raw.size)
    this.total = new Float64Array(this.validated.size)
    this.currency = new Uint8Array(this.validated.size)
    this.linesFingerprint = new Uint32Array(this.validated.size)
    this.lines = new Uint32Array(this.validated.size)
    this.rawCell = new Int32Array(this.validated.size)
    this.verdicts = new VerdictTable(this.validated.size)
    this.stages = stagesOf(topics).map((definition) => this.#createStage(definition))
    if (topics.isRouted) this.hops = new HopBooks(this.stageOf('command-center', 'inbox'), new Set(names))
    this.deadLetters = new Map(
      groupsOf(topics).map((group) => {
        const stages = this.stages.filter(({ definition }) => definition.group === group)
        return [group, new DeadLetterBooks(this.positionsOf(topics.deadLetters[group].name), stages)]
      }),
    )
  }

  #createStage(definition: StageDefinition): Stage {
    const { deadLetters, retries } = this.topics
    const { group, input, outputs } = definition
    const answers = [...outputs.map((output) => this.topics[output]), deadLetters[group]].map(({ name }) => {
      const number = this.numberOf(name)
      return { positions: this.positionsOf(name), has: (place: number) => Places.isIn(place, number) }
    })
    const causes = this.positionsOf(this.topics[input].name)
    return new Stage(definition, causes, answers, this.positionsOf(retries[group].name))
  }

  /** @throws Error for a group that answers nothing there */
  stageOf(group: GroupName, input: OrderTopic): Stage {
    const stage = this.stages.find(
      ({ definition }) => definition.group === group && definition.input === input,
    )
    if (!stage) throw new Error(`lib/auditStages.ts has no line for ${group} and ${input}`)
    return stage
  }

  positionsOf(topic: string): Positions {
    return this.positions.get(topic)!
  }

  /** The number of a topic in the places of its records. */
  numberOf(topic: string): number {
    return this.#topicNumbers.get(topic)!
  }

  /** How many committed records of a topic were taken. */
  countOf(topic: string): number {
    return this.recordsByTopic.get(topic) ?? 0
  }

  /** To be called when all has been read. */
  settleDeadLetters(): void {
    for (const books of this.deadLetters.values()) books.settle()
  }
}

/** The topics that an audit reads: all. */
export function auditedTopics(topics: TopicTable): string[] {
  return listTopics(topics).map(({ name }) => name)
}
