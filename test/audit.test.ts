import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Revenue } from '../lib/auditAnalytics.ts'
import { AuditBook, auditedTopics } from '../lib/auditBook.ts'
import type { Judgement } from '../lib/auditChecks.ts'
import { readJudge } from '../lib/auditEvents.ts'
import { formatAudit } from '../lib/auditText.ts'
import { defineTopics, type GroupName } from '../lib/topics.ts'
import { DEFECTS } from './auditDefects.ts'
import type { Planted } from './auditDefectTools.ts'
import { AT_THE_END, auditModel, momentsWithin } from './auditHarness.ts'
import { Model, type ModelOptions, type ModelOrder, randomFrom } from './auditModel.ts'
import { type ModelRecord, positionOf } from './auditModelRecords.ts'

const topics = defineTopics('test.')

function makeHistory(seed: number, orders: number, without: ModelOptions['without'] = []): Model {
  const model = new Model({ topics, partitions: 2, seed, orders, without })
  model.run()
  return model
}

/** Plants defects, each in an order of its own, and audits. */
function auditSpoilt(seed: number, orders: number, names: readonly string[]) {
  const model = makeHistory(seed, orders)
  const stock = model.stockAt(model.now)
  // The first is named by others.
  const taken = new Set<ModelOrder>([model.orders[0]!])
  const pick = (isFit: (order: ModelOrder) => boolean) => {
    const order = model.orders.find((order) => !taken.has(order) && isFit(order))
    if (order) taken.add(order)
    return order
  }
  const untouched = [...stock]
  const ground = { model, pick, pickStock: () => untouched.shift() }
  const planted = new Map<string, Planted>()
  for (const name of names) {
    const found = DEFECTS[name]!(ground)
    if (found) planted.set(name, found)
  }
  return { model, planted, judgement: auditModel(model, { isDrained: true }, undefined, stock) }
}

describe('the auditor', () => {
  for (const name of Object.keys(DEFECTS)) {
    it(`finds and names: ${name}`, () => {
      const histories = [auditSpoilt(7, 80, [name]), auditSpoilt(8, 80, [name])]
      assert.ok(
        histories.some(({ planted }) => planted.size > 0),
        'it could not be planted',
      )
      for (const { judgement, planted } of histories) assertFound(judgement, planted)
    })
  }

  it('finds any defects in any history, and accuses nobody else', () => {
    const some = fc.uniqueArray(fc.constantFrom(...Object.keys(DEFECTS)), { maxLength: 4 })
    fc.assert(
      fc.property(fc.nat(), some, (seed, names) => {
        const { judgement, planted } = auditSpoilt(seed, 30, names)
        assertFound(judgement, planted)
        // Some defects put the first order's id in place of another.
        const guilty = new Set(['ord-0', ...[...planted.values()].map(({ id }) => id)])
        const innocent = judgement.checks
          .filter(({ name }) => !SUMMED.includes(name))
          .flatMap(({ name, offenders }) =>
            offenders.filter(({ id }) => !guilty.has(id)).map(({ id }) => `${name}: ${id}`),
          )
        assert.deepEqual(innocent, [])
        if (planted.size === 0) assert.deepEqual(failures(judgement), [])
      }),
      { numRuns: 300 },
    )
  })

  it('accuses nobody while orders are under way, whenever it looks', () => {
    let underWay = 0
    fc.assert(
      fc.property(fc.nat(), fc.subarray(OPTIONAL_GROUPS), (seed, without) => {
        const model = makeHistory(seed, 25, without)
        const moments = momentsWithin(model, randomFrom(seed))
        const judgement = auditModel(model, { isDrained: false }, moments)
        assert.deepEqual(failures(judgement), [])
        underWay += judgement.totals.underWay
      }),
      { numRuns: 300 },
    )
    assert.ok(underWay > 0)
  })

  it('finds an order that was lost while others are under way, once a later one has passed it', () => {
    const model = makeHistory(3, 60, ['fulfilment'])
    const { inventoryEvents } = topics
    const lost = model.records(inventoryEvents.name).find(({ offset }) => offset === 1)!
    lost.committedAt = Number.POSITIVE_INFINITY
    const { checks, totals } = auditModel(model, { isDrained: false })
    const [failed, ...others] = checks.filter(({ ok }) => !ok)
    assert.equal(failed?.name, 'every validated order has its inventory verdict')
    assert.deepEqual([failed.offenders[0]?.id, others, totals.lost], [lost.key, [], 1])
  })

  it('takes an order that is validated again beyond the window of duplicates for no defect, and says so', () => {
    const model = makeHistory(4, 40)
    const { ordersRaw, ordersValidated } = topics
    const first = model.records(ordersValidated.name)[0]!
    const raw = model.records(ordersRaw.name).find(({ key }) => key === first.key)!
    const again = model.write(raw.topic, raw.partition, raw.key, raw.value)
    const second = model.write(first.topic, first.partition, first.key, first.value, {
      source: positionOf(again),
    })
    priceAgain(model, second)
    const judgement = auditModel(model, { isDrained: true, dedupe: { maxOrders: 1_000, maxAgeMs: 100 } })
    assert.deepEqual(failures(judgement), [])
    assert.match(noteOf(judgement, 'every validated order has its payment verdict'), /^1 came again/)
  })

  it('takes a letter for no loss that was redriven after its order had come again and got its verdict', () => {
    const model = makeHistory(4, 40)
    const { ordersRaw, ordersValidated, inventoryEvents, deadLetters, retries } = topics
    const { id } = model.orders.find(({ fate, stumbles }) => fate === 'valid' && !stumbles)!
    const [raw, first, verdict] = [ordersRaw, ordersValidated, inventoryEvents].map(
      ({ name }) => model.records(name).find(({ key }) => key === id)!,
    ) as [ModelRecord, ModelRecord, ModelRecord]
    const { partition, key, value } = first
    const placed = model.write(raw.topic, partition, key, raw.value)
    const again = model.write(first.topic, partition, key, value, { source: positionOf(placed) })
    priceAgain(model, again)
    // The first one could not be worked on, and so the second one had its effect.
    const letter = model.write(deadLetters.inventory.name, partition, key, value, {
      source: positionOf(first),
    })
    model.write(retries.inventory.name, partition, key, value, {
      source: positionOf(first),
      'dead-letter': positionOf(letter),
    })
    verdict.headers = { source: positionOf(again) }
    model.outcomes.find(({ orderId, operation }) => orderId === id && operation === 'reserve')!.source =
      positionOf(again)
    const judgement = auditModel(model, { isDrained: true, dedupe: { maxOrders: 1_000, maxAgeMs: 100 } })
    assert.deepEqual(failures(judgement), [])
  })

  it('says where an order lies that was never decided', () => {
    const { judgement, planted, model } = auditSpoilt(7, 80, ['never decided'])
    const { id } = planted.get('never decided')!
    const { offenders } = judgement.checks.find(
      ({ name }) => name === 'every validated order has its decision',
    )!
    const validated = model.records(topics.ordersValidated.name).find(({ key }) => key === id)!
    assert.equal(offenders[0]?.seen[0], positionOf(validated))
  })

  it('reads what a judge says that has no event of its own', () => {
    const assessed = { type: 'OrderAssessed', orderId: 'ord-1', verdict: 'warning', reasons: [] }
    const read = (event: object) => readJudge('fraud', JSON.stringify(event))?.verdict
    assert.deepEqual(read(assessed), { result: 'warning', code: 'fraud' })
    const reasons = [{ code: 'no-address', message: 'it has none' }]
    assert.deepEqual(read({ ...assessed, reasons }), { result: 'warning', code: 'no-address' })
    assert.deepEqual(read({ ...assessed, verdict: 'pass' }), { result: 'pass' })
    assert.equal(read({ ...assessed, verdict: 'maybe' }), undefined)
  })

  it('refuses a topic whose end nobody looks at', () => {
    const names = auditedTopics(topics).filter((name) => name !== topics.paymentEvents.name)
    const bounds = new Map(names.map((name) => [name, new Map()]))
    assert.throws(() => new AuditBook(topics, bounds), /payment.events is in none of the WAVES/)
  })

  it('says how many checks were not made', () => {
    const model = makeHistory(4, 40)
    const { checks, totals } = auditModel(model, { isDrained: false })
    const skipped = checks.filter((check) => check.skipped !== undefined).length
    const report = {
      ok: true,
      drained: false,
      startedAt: '',
      seconds: 0,
      records: {},
      rows: 0,
      totals,
      checks,
    }
    const last = `PASS: ${checks.length - skipped} checks, ${skipped} not made\n`
    assert.ok(formatAudit(report, false).endsWith(last))
  })

  it('counts what befell the orders', () => {
    const { judgement } = auditSpoilt(5, 80, ['a refusal lost', 'payment verdict twice', 'authorised twice'])
    const { lost, duplicated, chargedTwice } = judgement.totals
    assert.deepEqual({ lost, duplicated, chargedTwice }, { lost: 1, duplicated: 1, chargedTwice: 1 })
  })

  it('leaves out what it cannot know when the oldest records are deleted, and accuses nobody for it', () => {
    const model = makeHistory(6, 80)
    const judgement = auditModel(
      model,
      { isDrained: true },
      { ...AT_THE_END, deletedUntil: () => model.now / 3 },
    )
    assert.deepEqual(failures(judgement), [])
    const skipped = judgement.checks.filter((check) => check.skipped?.includes('deleted'))
    assert.ok(skipped.length > 4 && skipped.length < judgement.checks.length / 2)
  })

  it('accuses nobody when each topic is kept for another time', () => {
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), (seed, isDrained) => {
        const model = makeHistory(seed, 25)
        const random = randomFrom(seed)
        const until = new Map(auditedTopics(topics).map((name) => [name, keptSince(model, random())]))
        const deletedUntil = (topic: string) => until.get(topic)!
        const moments = isDrained ? AT_THE_END : momentsWithin(model, random)
        const judgement = auditModel(model, { isDrained }, { ...moments, deletedUntil })
        assert.deepEqual(failures(judgement), [])
      }),
      // The example: a dead letter that came after the look at its topic, and was redriven before that at the answers.
      { numRuns: 200, examples: [[984850338, false]] },
    )
  })

  it('tells a sum of analytics that is not its own', () => {
    const model = makeHistory(9, 40)
    const { validatedMinor, capturedMinor } = auditModel(model, { isDrained: true }).totals
    const failuresWith = (revenue: Revenue) => failures(auditModel(model, { isDrained: true, revenue }))
    const revenue = { bookedMinor: validatedMinor, capturedMinor }
    assert.deepEqual(failuresWith(revenue), [])
    const more = (amounts: Record<string, number>) => ({ ...amounts, EUR: amounts.EUR! + 1 })
    assert.match(
      failuresWith({ ...revenue, bookedMinor: more(validatedMinor) }).join(),
      /^[^\n]*booked revenue/,
    )
    assert.match(
      failuresWith({ ...revenue, capturedMinor: more(capturedMinor) }).join(),
      /^[^\n]*captured revenue/,
    )
  })
})

/** What stores nothing says the same of an order whenever it is validated. */
function priceAgain(model: Model, { key, partition, ...validated }: ModelRecord): void {
  const { name } = topics.pricingEvents
  const { value } = model.records(name).find((record) => record.key === key)!
  model.write(name, partition, key, value, { source: positionOf({ key, partition, ...validated }) })
}

/** Not all of them run in the first tier. */
const OPTIONAL_GROUPS: GroupName[] = ['fraud', 'pricing', 'fulfilment']
const SUMMED = ['captured is the sum of confirmed totals']

function failures({ checks }: Judgement): string[] {
  return checks.filter(({ ok }) => !ok).map(({ name, offenders }) => `${name}: ${JSON.stringify(offenders)}`)
}

/** Half of the topics are kept as a whole. */
function keptSince({ now }: Model, share: number): number {
  return share < 0.5 ? 0 : Math.floor((share - 0.5) * 2 * now)
}

function noteOf({ checks }: Judgement, name: string): string {
  return checks.find((check) => check.name === name)?.note ?? ''
}

/** Each is found by the checks that must find it, which name it with where it was seen. */
function assertFound({ checks }: Judgement, planted: ReadonlyMap<string, Planted>): void {
  for (const [name, { id, checks: wanted }] of planted) {
    for (const check of wanted) {
      const isSum = SUMMED.includes(check)
      // Two amounts that are one off can make up for one another.
      if (isSum && planted.size > 1) continue
      const result = checks.find((result) => result.name === check)
      assert.ok(result, `there is no check '${check}'`)
      assert.equal(result.ok, false, `${name}: '${check}' passes`)
      const offender = result.offenders.find((offender) => offender.id === id)
      // A sum names a currency, and a long list its first few.
      if (isSum || result.found > result.offenders.length) continue
      assert.ok(offender, `${name}: '${check}' does not name ${id}: ${JSON.stringify(result.offenders)}`)
      assert.ok(offender.seen.length > 0, `${name}: '${check}' does not say where`)
    }
  }
}
