import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FAULT_KINDS, planFaults, SERVICES, standingProcesses } from '../lib/faultSchedule.ts'
import { UndecidedOrders } from '../lib/undecided.ts'

const SHAPE = { seed: 1, seconds: 600, faults: 160, brokers: 1, sessionTimeoutMs: 6_000 }

test('the same seed gives the same schedule, and another one another', () => {
  assert.deepEqual(planFaults(SHAPE), planFaults({ ...SHAPE }))
  assert.notDeepEqual(planFaults(SHAPE), planFaults({ ...SHAPE, seed: 2 }))
})

test('a long run has faults of every kind, and each of them stands apart at least once', () => {
  const faults = planFaults(SHAPE)
  assert.equal(faults.length, 160)
  assert.deepEqual(new Set(faults.map(({ kind }) => kind)), new Set(FAULT_KINDS))
  const apart = faults.filter(({ isApart }) => isApart)
  assert.equal(apart.length, 16)
  assert.deepEqual(new Set(apart.map(({ kind }) => kind)), new Set(FAULT_KINDS))
})

test('every service that has a part in the life of an order is struck', () => {
  assert.deepEqual(SERVICES, [
    'validator',
    'inventoryService',
    'paymentService',
    'fraudService',
    'pricingService',
    'fulfilmentService',
  ])
  const struck = new Set(planFaults(SHAPE).map(({ target }) => target.replace(/-\d+$/, '')))
  for (const name of [...SERVICES, 'mailService', 'orderView', 'api']) assert.ok(struck.has(name), name)
})

test('whatever the shape, faults are in order, within the run and against something that there is', () => {
  const shapes = fc.record({
    seed: fc.nat(),
    seconds: fc.integer({ min: 10, max: 1_000 }),
    faults: fc.integer({ min: 0, max: 300 }),
    brokers: fc.constantFrom(1, 3),
    sessionTimeoutMs: fc.integer({ min: 1_000, max: 20_000 }),
  })
  fc.assert(
    fc.property(shapes, (shape) => {
      const faults = planFaults(shape)
      assert.equal(faults.length, shape.faults)
      const targets = new Set([
        ...standingProcesses(),
        ...SERVICES.map((name) => `${name}-3`),
        'postgres',
        'gateway',
        ...Array.from({ length: shape.brokers }, (_, index) => `broker-${index + 1}`),
      ])
      let beforeMs = 0
      for (const fault of faults) {
        assert.ok(fault.atMs >= beforeMs && fault.atMs < shape.seconds * 1_000, JSON.stringify(fault))
        assert.ok(targets.has(fault.target), fault.target)
        assert.equal(fault.kind === 'kill-at-point', fault.point !== undefined)
        if (fault.kind === 'freeze') assert.ok(fault.forMs > shape.sessionTimeoutMs)
        beforeMs = fault.atMs
      }
    }),
    { numRuns: 200 },
  )
})

test('a fault that stands apart has room before it and behind it, also beside a process that is frozen', () => {
  const faults = planFaults(SHAPE)
  for (const [index, { isApart, atMs }] of faults.entries()) {
    if (!isApart) continue
    const burst = faults.slice(index - 9, index)
    assert.ok(atMs - Math.max(...burst.map((fault) => fault.atMs + fault.forMs)) > 3_000)
    assert.ok((faults[index + 1]?.atMs ?? SHAPE.seconds * 1_000) - atMs > 12_000)
  }
})

test('an order is undecided until its decision is read, whichever comes first, and also when it is validated again', () => {
  const orders = new UndecidedOrders()
  orders.take(false, 'late')
  orders.take(false, 'decided')
  orders.take(true, 'decided')
  orders.take(false, 'decided')
  orders.take(true, 'early')
  orders.take(false, 'early')
  assert.equal(orders.count, 1)
  orders.take(true, 'late')
  assert.equal(orders.count, 0)
})
