import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Decision, decide } from '../lib/decision.ts'
import { JUDGE_NAMES, type Verdict } from '../lib/judges.ts'
import { VerdictJoin } from '../lib/verdictJoin.ts'

const JUDGES = ['inventory', 'payment', 'fraud', 'pricing'] as const
const ORDERS = 'orders'
const TOPICS = [ORDERS, ...JUDGES]
const TIMEOUT_MS = 1_000
/** Of every order here, unless it is about that. */
const ID = 'order'
const PASS: Verdict = { result: 'pass', reasons: [] }
const FAIL: Verdict = { result: 'fail', reasons: [{ code: 'no', message: 'no' }] }
const WARNING: Verdict = { result: 'warning', reasons: [{ code: 'odd', message: 'odd' }] }

interface Order {
  total: number
}
interface LogRecord {
  offset: number
  /** Of an order: when it is due. */
  dueMs?: number
  /** Of a verdict. */
  cause?: number
  verdict?: Verdict
}

/** One partition of all topics, with what was committed: it stands when an instance dies. */
class Broker {
  nowMs = 0
  readonly logs = new Map<string, LogRecord[]>(TOPICS.map((topic) => [topic, []]))
  committed = new Map<string, number>(TOPICS.map((topic) => [topic, 0]))
  kept: ReadonlyMap<string, number> = new Map(TOPICS.map((topic) => [topic, 0]))
  readonly published: { offset: number; decision: Decision }[] = []
  /** The database: the first decision of each order. */
  readonly stored = new Map<number, Decision>()

  /** Offsets have gaps, as those of a log with transactions. */
  append(topic: string, record: Omit<LogRecord, 'offset'>): number {
    const log = this.logs.get(topic)!
    const offset = (log.at(-1)?.offset ?? -1) + 1 + (log.length % 2)
    log.push({ offset, ...record })
    return offset
  }

  endOf(topic: string): number {
    return (this.logs.get(topic)!.at(-1)?.offset ?? -1) + 1
  }
}

/** An instance of fulfilment: what lib/task.ts and lib/fulfilment.ts do with the join, without waiting. */
class Instance {
  readonly #broker: Broker
  readonly #join: VerdictJoin<Order>
  readonly #positions: Map<string, number>
  readonly #unpublished: { offset: number; decision: Decision }[] = []
  #look: { atMs: number; ends: Map<string, number> } | undefined

  /** @param order in which topics are read back */
  constructor(broker: Broker, order: readonly string[]) {
    this.#broker = broker
    const starts = new Map(
      TOPICS.map((topic) => [topic, Math.min(broker.kept.get(topic)!, broker.committed.get(topic)!)]),
    )
    this.#join = new VerdictJoin({ orders: ORDERS, verdicts: JUDGES, starts })
    this.#positions = new Map(starts)
    for (const topic of order) {
      this.#each(topic, Number.POSITIVE_INFINITY, broker.committed.get(topic)!, (record) =>
        this.#take(topic, record),
      )
      this.#positions.set(topic, broker.committed.get(topic)!)
    }
    this.#join.settle(this.#join.ready.filter(({ offset }) => broker.stored.has(offset)))
  }

  #each(topic: string, most: number, end: number, take: (record: LogRecord) => void): void {
    const from = this.#positions.get(topic)!
    const records = this.#broker.logs.get(topic)!.filter(({ offset }) => offset >= from && offset < end)
    for (const record of records.slice(0, most)) {
      take(record)
      this.#positions.set(topic, record.offset + 1)
    }
  }

  #take(topic: string, { offset, dueMs, cause, verdict }: LogRecord): void {
    if (topic === ORDERS) this.#join.addOrder(offset, ID, { total: 100 }, dueMs!)
    else this.#join.addVerdict(JUDGES.indexOf(topic as (typeof JUDGES)[number]), cause!, ID, verdict!, offset)
  }

  read(topic: string, most: number): void {
    this.#each(topic, most, this.#broker.endOf(topic), (record) => this.#take(topic, record))
    this.#decide(this.#join.ready)
  }

  findOverdue(): void {
    const { nowMs } = this.#broker
    if (!this.#look && this.#join.dueMs > nowMs) return
    this.#look ??= { atMs: nowMs, ends: new Map(TOPICS.map((topic) => [topic, this.#broker.endOf(topic)])) }
    for (const [topic, end] of this.#look.ends) if (this.#positions.get(topic)! < end) return
    this.#join.dropStrays(this.#look.ends)
    const overdue = this.#join.overdueAt(this.#look.atMs, 2)
    this.#decide(overdue)
    if (overdue.length < 2) this.#look = undefined
  }

  #decide(joined: VerdictJoin<Order>['ready']): void {
    for (const { offset, order, verdicts } of joined) {
      const named = verdicts.map((verdict, judge) => [JUDGES[judge]!, verdict] as const)
      const decision = this.#broker.stored.get(offset) ?? decide(order, named)
      this.#broker.stored.set(offset, decision)
      this.#unpublished.push({ offset, decision })
    }
    this.#join.settle(joined)
  }

  commit(): void {
    this.#broker.committed = new Map(this.#positions)
    this.#broker.kept = this.#join.keepFrom(this.#broker.nowMs)
    this.#broker.published.push(...this.#unpublished.splice(0))
  }

  get open(): number {
    return this.#join.open
  }
}

type Step =
  | { do: 'order'; waitsMs: number }
  | { do: 'verdict'; judge: number; order: number; verdict: Verdict }
  | { do: 'read'; topic: number; most: number }
  | { do: 'commit' }
  | { do: 'wait'; ms: number }
  | { do: 'die'; seed: number }

const verdict = fc.constantFrom(PASS, PASS, PASS, WARNING, FAIL)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('order' as const),
      // As if written by clocks that differ.
      waitsMs: fc.integer({ min: TIMEOUT_MS / 2, max: TIMEOUT_MS * 2 }),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('verdict' as const),
      judge: fc.nat(3),
      order: fc.nat(7),
      verdict,
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      topic: fc.nat(4),
      most: fc.integer({ min: 1, max: 5 }),
    }),
  },
  { weight: 4, arbitrary: fc.constant<Step>({ do: 'commit' }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 1_500 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('die' as const), seed: fc.nat(119) }) },
)

/** One of the 120 orders in which five topics can be read. */
function permutation(seed: number): string[] {
  const left = [...TOPICS]
  const order: string[] = []
  for (let rest = seed, size = left.length; size > 0; size--) {
    order.push(...left.splice(rest % size, 1))
    rest = Math.floor(rest / size)
  }
  return order
}

test('whoever dies whenever, each order is decided once, by what was there in time', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
      const broker = new Broker()
      let instance = new Instance(broker, TOPICS)
      const orders: { offset: number; dueMs: number }[] = []
      for (const one of steps) {
        if (one.do === 'order') {
          const dueMs = broker.nowMs + one.waitsMs
          orders.push({ offset: broker.append(ORDERS, { dueMs }), dueMs })
        } else if (one.do === 'verdict') {
          const order = orders.at(-1 - one.order)
          // Each judge is of one mind: what it says again is the same.
          if (order) say(broker, one.judge, order.offset, one.verdict)
        } else if (one.do === 'read') {
          instance.read(TOPICS[one.topic]!, one.most)
        } else if (one.do === 'wait') {
          broker.nowMs += one.ms
          instance.findOverdue()
        } else if (one.do === 'commit') {
          instance.commit()
        } else {
          instance = new Instance(broker, permutation(one.seed))
        }
      }
      broker.nowMs += 10 * TIMEOUT_MS
      for (const topic of TOPICS) instance.read(topic, Number.POSITIVE_INFINITY)
      // A look may be under way that began too early for the last of them; and it takes two at a time.
      for (const _ of orders) instance.findOverdue()
      instance.findOverdue()
      instance.commit()
      assert.equal(instance.open, 0)
      assert.deepEqual(
        broker.published.map(({ offset }) => offset).sort((a, b) => a - b),
        orders.map(({ offset }) => offset),
        'each order is decided once',
      )
      for (const { offset, decision } of broker.published) {
        assert.equal(decision, broker.stored.get(offset), 'as it was stored at first')
        const said = JUDGES.map((judge) => verdictOf(broker, judge, offset))
        if (decision.isConfirmed) assert.ok(said.every((one) => one && one.result !== 'fail'))
        else
          assert.ok(decision.reasons.some(({ code }) => code === 'decision-timeout') || said.includes(FAIL))
      }
      // A new instance knows that all of it is done.
      assert.equal(new Instance(broker, permutation(7)).open, 0)
    }),
    { numRuns: 2_000 },
  )
})

function verdictOf(broker: Broker, judge: string, cause: number): Verdict | undefined {
  return broker.logs.get(judge)!.find((record) => record.cause === cause)?.verdict
}

function say(broker: Broker, judge: number, cause: number, verdict: Verdict): void {
  const name = JUDGES[judge]!
  broker.append(name, { cause, verdict: verdictOf(broker, name, cause) ?? verdict })
}

test('in every order of the verdicts and the end of the time, with repeats, there is one decision, and the right one', () => {
  for (const results of [
    [PASS, PASS, PASS, PASS],
    [PASS, FAIL, PASS, WARNING],
    [WARNING, PASS, PASS, PASS],
  ]) {
    for (let seed = 0; seed < 120; seed++) {
      const sequence = permutation(seed)
      const broker = new Broker()
      const instance = new Instance(broker, TOPICS)
      const offset = broker.append(ORDERS, { dueMs: TIMEOUT_MS })
      instance.read(ORDERS, 1)
      for (const what of sequence) {
        if (what === ORDERS) broker.nowMs = TIMEOUT_MS
        else
          for (const _ of [1, 2])
            say(broker, JUDGES.indexOf(what as never), offset, results[JUDGES.indexOf(what as never)]!)
        for (const topic of TOPICS) instance.read(topic, Number.POSITIVE_INFINITY)
        instance.findOverdue()
        instance.commit()
      }
      assert.equal(broker.published.length, 1, sequence.join())
      const { decision } = broker.published[0]!
      const late = sequence.slice(sequence.indexOf(ORDERS) + 1)
      const isFailed = (judge: string) => results[JUDGES.indexOf(judge as never)] === FAIL
      assert.equal(decision.isConfirmed, late.length === 0 && !JUDGES.some(isFailed))
      if (decision.isConfirmed) {
        assert.deepEqual(
          decision.warnings,
          results.flatMap(({ result, reasons }) => (result === 'warning' ? reasons : [])),
        )
      } else {
        const missing = decision.reasons.filter(({ code }) => code === 'decision-timeout')
        assert.deepEqual(
          missing.map(({ message }) => message.split(' ')[0]),
          JUDGES.filter((judge) => late.includes(judge)),
        )
        assert.equal(
          decision.reasons.length - missing.length,
          JUDGES.filter((judge) => isFailed(judge) && !late.includes(judge)).length,
        )
      }
    }
  }
})

test('verdicts on what is no order are forgotten, and nobody reads back to them for ever', () => {
  const join = new VerdictJoin<Order>({ orders: ORDERS, verdicts: JUDGES, starts: new Map() })
  join.addVerdict(0, 1_000_000, ID, PASS, 3)
  join.addVerdict(1, 5, ID, PASS, 4)
  join.addOrder(6, ID, { total: 1 }, 10)
  assert.equal(join.hasStrays, true)
  join.dropStrays(new Map([[ORDERS, 7], ...JUDGES.map((judge) => [judge, 10] as const)]))
  assert.equal(join.hasStrays, false)
  assert.equal(join.open, 1)
  assert.deepEqual(
    [...join.keepFrom(5_000)],
    [
      ['inventory', 4],
      ['payment', 5],
      ['fraud', 0],
      ['pricing', 0],
      [ORDERS, 6],
    ],
  )
})

test('an order whose verdicts came first is ready at once, and what is said of it later is passed over', () => {
  const join = new VerdictJoin<Order>({ orders: ORDERS, verdicts: JUDGES, starts: new Map() })
  JUDGES.forEach((_, judge) => void join.addVerdict(judge, 2, ID, PASS, judge))
  assert.equal(join.addOrder(2, ID, { total: 1 }, 10), true)
  assert.equal(join.ready.length, 1)
  assert.equal(join.addOrder(2, ID, { total: 1 }, 10), false)
  assert.equal(join.has(2), true)
  join.settle(join.ready)
  assert.equal(join.addOrder(2, ID, { total: 1 }, 10), false)
  assert.equal(join.has(2), false)
  join.addVerdict(0, 2, ID, FAIL, 9)
  assert.deepEqual([join.hasStrays, join.ready.length, join.floor], [false, 0, 3])
})

test('a verdict that names another order as its cause is none of it, whichever of them comes first', () => {
  const join = new VerdictJoin<Order>({ orders: ORDERS, verdicts: JUDGES, starts: new Map() })
  join.addVerdict(0, 2, 'another', PASS, 0)
  JUDGES.forEach((_, judge) => void (judge > 0 && join.addVerdict(judge, 2, ID, PASS, judge)))
  join.addOrder(2, ID, { total: 1 }, 10)
  assert.equal(join.ready.length, 0)
  assert.equal(join.addVerdict(0, 2, 'another', PASS, 5), false)
  assert.equal(join.ready.length, 0)
  assert.equal(join.addVerdict(0, 2, ID, FAIL, 6), true)
  assert.deepEqual(
    join.ready.map(({ verdicts }) => verdicts),
    [[FAIL, PASS, PASS, PASS]],
  )
})

test('what is read again is not much more than what is open', () => {
  const join = new VerdictJoin<Order>({ orders: ORDERS, verdicts: JUDGES, starts: new Map() })
  for (let offset = 0; offset < 10_000; offset++) {
    join.addOrder(offset, ID, { total: 1 }, offset + TIMEOUT_MS)
    // The last of the judges is some way behind.
    JUDGES.forEach((_, judge) => void (judge < 3 && join.addVerdict(judge, offset, ID, PASS, offset)))
    if (offset >= 100) join.addVerdict(3, offset - 100, ID, PASS, offset - 100)
    join.settle(join.ready)
  }
  assert.equal(join.open, 100)
  assert.deepEqual(new Set(join.keepFrom(10_000_000).values()), new Set([9_900]))
})

test('the judges of the table are those that are waited for', () => {
  assert.deepEqual(JUDGE_NAMES, [...JUDGES])
})
