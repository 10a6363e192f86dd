import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pace } from '../../lib/pace.ts'
import { PlacedCounts, placeSimulated } from '../../lib/placing.ts'
import { createSimulator } from '../../lib/simulator.ts'

for (const rate of [1, 100, 5_000]) {
  test(`${rate} orders per second are held within 2 % over ten seconds`, async () => {
    const ending = new AbortController()
    setTimeout(() => ending.abort(), 10_000)
    const counts = new PlacedCounts()
    await placeSimulated(
      createSimulator({ seed: 1, badRatio: 0, runId: 'run' }),
      new Pace(rate, performance.now()),
      {
        sender: { send: async (_topic, records) => records.length },
        topic: 'orders.raw',
        orders: Number.POSITIVE_INFINITY,
        counts,
        signal: ending.signal,
      },
    )
    assert.ok(Math.abs(counts.placed / (rate * 10) - 1) <= 0.02, `${counts.placed} placed`)
  })
}
