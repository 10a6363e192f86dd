import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import { parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import type { Figures } from '../lib/tally.ts'
import { readAll, runScript, testEnvironment, until } from './harness.ts'

/** So many that the default mix shows every end that needs no standstill. */
const ORDERS = 5_000
const HISTORY = '../shared/data/online-retail/online-retail-2010-12-to-2011-09.csv.gz'

interface Summary extends Figures {
  ordersPerSecond: number
  seconds: number
  ok: boolean
}

/** Runs start.ts to its end and gives its status and the object in the last line. */
async function start(t: TestContext, env: Record<string, string>, ...args: string[]) {
  const { child, lines } = runScript(t, 'start', env, [...args, '--json'])
  const status = await ended(child)
  const last = lines.findLast((line) => line.startsWith('{'))
  assert.ok(last, lines.slice(-20).join('\n'))
  return { status, summary: JSON.parse(last) as Summary, lines }
}

/**
 * What the file comes to by another way: awk over the CSV, with its own idea of quotes, and prices in whole pence.
 * One line for each invoice: its total, and whether a line of it has a quantity of 0 or less or a negative price.
 */
function sumByAwk(): { invoices: number; accepted: number; revenueMinor: number } {
  const program = `
    NR > 1 {
      gsub(/"[^"]*"/, "q")
      split($0, f, ",")
      price = f[6]; sign = 1
      if (substr(price, 1, 1) == "-") { sign = -1; price = substr(price, 2) }
      split(price, parts, ".")
      thousandths = parts[1] * 1000 + substr(parts[2] "000", 1, 3)
      pence = sign * int((thousandths + 5) / 10)
      total[f[1]] += f[4] * pence
      if (f[4] <= 0 || pence < 0) bad[f[1]] = 1
    }
    END {
      for (invoice in total) {
        invoices++
        if (!(invoice in bad) && total[invoice] > 0 && total[invoice] < 1000000) { accepted++; revenue += total[invoice] }
      }
      printf "%d %d %d", invoices, accepted, revenue
    }`
  const answer = execFileSync('bash', ['-c', `zcat "$1" | awk "$2"`, 'bash', HISTORY, program], {
    encoding: 'utf8',
  })
  const [invoices, accepted, revenueMinor] = answer.split(' ').map(Number)
  return { invoices: invoices!, accepted: accepted!, revenueMinor: revenueMinor! }
}

describe('npm start', () => {
  it('places orders, waits until all have come to their ends, and says to which', async (t) => {
    const env = await testEnvironment(t)
    const { status, summary, lines } = await start(t, env, '--orders', String(ORDERS))
    assert.equal(status, 0, lines.slice(-20).join('\n'))
    assert.equal(summary.ok, true)
    assert.equal(summary.placed, ORDERS)
    assert.equal(summary.validated + summary.rejected + summary.deadLettered, ORDERS)
    assert.equal(summary.reserved + summary.notReserved, summary.validated)
    assert.equal(summary.authorised + summary.declined, summary.validated)
    assert.ok(summary.rejected > 0 && summary.deadLettered > 0)
    assert.equal(summary.confirmed + summary.cancelledOrders, summary.validated)
    assert.ok(summary.confirmed * 2 > summary.validated, 'most orders are confirmed')
    const codes = Object.keys(summary.cancelled).sort()
    assert.deepEqual(codes, ['fraud', 'out-of-stock', 'payment-declined'], 'all ends but timeout')
    assert.equal(summary.captured, summary.confirmed)
    assert.equal(summary.captured + summary.voided, summary.authorised)
    assert.equal(summary.committed + summary.released, summary.reserved)
    const config = parseConfig(env)
    const { ordersValidated, ordersCompleted } = config.topics
    const records = await readAll(config, [ordersValidated.name, ordersCompleted.name])
    const sums = { booked: 0, confirmed: 0 }
    for (const { value } of records.get(ordersValidated.name)!) sums.booked += JSON.parse(String(value)).total
    for (const { value } of records.get(ordersCompleted.name)!) {
      const { type, total } = JSON.parse(String(value))
      if (type === 'OrderConfirmed') sums.confirmed += total
    }
    const sumOf = (amounts: Record<string, number>) =>
      Object.values(amounts).reduce((sum, minor) => sum + minor)
    assert.equal(sumOf(summary.revenueMinor), sums.booked)
    assert.equal(sumOf(summary.capturedMinor), sums.confirmed)
  })

  it('runs until it is told to end, and then leaves nothing behind', async (t) => {
    const env = await testEnvironment(t)
    const { child, lines } = runScript(t, 'start', env, ['--rate', '50', '--verbose'])
    await until('payments flow', () => lines.some((line) => /captured [1-9]/.test(line)), 60_000)
    const listed = execFileSync('ps', ['-e', '-o', 'pid=,ppid='], { encoding: 'utf8' })
    const children = listed
      .split('\n')
      .map((line) => line.trim().split(/\s+/).map(Number))
      .filter(([, parent]) => parent === child.pid)
      .map(([pid]) => pid!)
    assert.ok(children.length >= 12, 'a process for each script')
    child.kill('SIGINT')
    assert.equal(await ended(child), 0)
    for (const pid of children) assert.throws(() => process.kill(pid, 0), `process ${pid} is left`)
  })

  it('is not outlived by a script that was still starting, and ends when its terminal is closed', async (t) => {
    const env = await testEnvironment(t)
    const [orphan, hungUp] = [runScript(t, 'validator', env), runScript(t, 'validator', env)]
    // As if we were gone: before it has read a line of its script.
    orphan.child.disconnect()
    await until('it is at work', () => hungUp.lines.some((line) => /waiting/.test(line)))
    hungUp.child.kill('SIGHUP')
    await until('both end by themselves', () => orphan.child.exitCode === 0 && hungUp.child.exitCode === 0)
    assert.match(hungUp.lines.join('\n'), /SIGHUP: finishing/)
  })

  it('refuses flags that make no sense', async (t) => {
    const env = await testEnvironment(t)
    const { child, lines } = runScript(t, 'start', env, ['--orders', 'many'])
    assert.equal(await ended(child), 1)
    assert.match(lines.join('\n'), /--orders many is not usable: it takes a whole number above 0/)
  })

  it('replays a real order history, and comes to the same sums as awk', async (t) => {
    if (!existsSync(HISTORY)) return t.skip('the order history is not there')
    const env = await testEnvironment(t, { PARTITIONS: '6' })
    const expected = sumByAwk()
    assert.equal(expected.invoices, 18_786)
    const { status, summary } = await start(t, env, '--file', HISTORY)
    assert.equal(status, 0)
    assert.equal(summary.placed, expected.invoices)
    assert.equal(summary.confirmed + summary.cancelledOrders, summary.validated)
    assert.deepEqual(
      [summary.validated, summary.rejected, summary.deadLettered],
      [expected.accepted, expected.invoices - expected.accepted, 0],
    )
    assert.deepEqual(summary.revenueMinor, { GBP: expected.revenueMinor })
    const config = parseConfig(env)
    const { name } = config.topics.ordersRejected
    const allowed = new Set([
      'quantity-not-positive',
      'negative-price',
      'total-not-positive',
      'total-over-limit',
    ])
    for (const { value } of (await readAll(config, [name])).get(name)!) {
      for (const { code } of JSON.parse(value!.toString()).reasons) assert.ok(allowed.has(code), code)
    }
  })
})
