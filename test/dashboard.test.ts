/**
 * The page of the dashboard in a real browser, on one pipeline of its own: a process for each script, so that one can be
 * killed and stays so. With SCREENSHOTS_DIR the screenshots stay there.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isDeepStrictEqual, promisify } from 'node:util'
import type { Browser, CDPSession, Page } from 'playwright-core'
import { kafkaClasspath } from '../infra/kafka.ts'
import { findJava } from '../infra/kafkaJars.ts'
import { freePort } from '../infra/ports.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import type { AuditReport } from '../lib/auditReport.ts'
import { runScript as runToEnd, stopScript } from '../lib/childProcesses.ts'
import type { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
import { eventIdOf } from '../lib/events.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { WHOLE_LIFE } from '../lib/tally.ts'
import { findBarriers, openBrowser, openPage, type WatchedPage } from './browser.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readTally,
  runScript,
  testEnvironment,
  until,
} from './harness.ts'

const TOKEN = 'the-token-of-this-test'
const RATE = 25
const LEAST_CONFIRMED = 60
const LEAST_WAITING = 60
const STARTED_WITHIN_MS = 180_000
const STAGES = [
  'producer',
  'api',
  'validator',
  ...JUDGE_NAMES,
  'fulfilment',
  'mail',
  'analytics',
  'order-view',
  'gateway',
]
const HOSTILE = '<img src="x" onerror="document.title=\'hacked\'"><script>document.title="hacked"</script>'
const GONE_WITHIN_MS = 15_000
const WHOLE_WITHIN_MS = 2_000
const SKIP_LINK = 'Skip to the figures'
/** A field for a time has several stops. */
const MOST_TABS = 250

interface Pipeline {
  env: Record<string, string>
  config: Config
  url: string
  services: Map<string, RunningScript>
  /** Starts one of them, again if need be. */
  start(name: string): void
}

async function startPipeline(t: TestContext): Promise<Pipeline> {
  const [dashboardPort, gatewayPort] = [await freePort(), await freePort()]
  const env = await testEnvironment(t, {
    DASHBOARD_PORT: String(dashboardPort),
    GATEWAY_PORT: String(gatewayPort),
    GATEWAY_URL: `http://127.0.0.1:${gatewayPort}`,
    GATEWAY_LATENCY_MS: '5',
    ORDERS_PER_SECOND: '0',
    BAD_ORDER_RATIO: '0.1',
    DEMO_CONTROLS: 'on',
    DEMO_TOKEN: TOKEN,
  })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const services = new Map<string, RunningScript>()
  const start = (name: string) => void services.set(name, runScript(t, name, env))
  const judges = JUDGE_NAMES.map((name) => `${name}Service`)
  for (const name of ['analytics', 'paymentGateway', 'validator', ...judges, 'fulfilmentService']) start(name)
  for (const name of ['mailService', 'orderView', 'api', 'producer']) start(name)
  return { env, config, url: `http://127.0.0.1:${dashboardPort}`, services, start }
}

async function openDashboard(
  t: TestContext,
  browser: Browser,
  url: string,
  options: Parameters<typeof openPage>[2] = {},
): Promise<WatchedPage> {
  const watched = await openPage(t, browser, options)
  await watched.page.goto(url)
  await watched.page.waitForSelector('[data-stage]')
  return watched
}

const text = async (page: Page, selector: string) =>
  (await page.locator(selector).first().textContent()) ?? ''
/** The first number in the text of an element. */
const numberIn = async (page: Page, selector: string) =>
  Number(/[\d,]+/.exec(await text(page, selector))?.[0].replaceAll(',', '') ?? Number.NaN)
const stateOf = (page: Page, stage: string) => text(page, `[data-stage=${stage}] .state-word`)
const tile = (name: string) => `[data-figure=${name}]`

test('the dashboard', { timeout: 600_000 }, async (t) => {
  const browser = await openBrowser(t)
  if (!browser) return
  const pipeline = await startPipeline(t)
  const { config, url, services, start } = pipeline
  const isServed = async () => (await fetch(url).catch(() => undefined))?.ok === true
  await until('the dashboard is served', isServed, STARTED_WITHIN_MS)
  const watched = await openDashboard(t, browser, url, { viewport: { width: 1440, height: 900 } })
  const { page } = watched
  await page.evaluate(() => document.body.setAttribute('data-loaded-once', ''))

  await t.test('shows every stage, with its state in words', async () => {
    const allRun = async () => {
      const states = await Promise.all(STAGES.map((stage) => stateOf(page, stage)))
      return states.every((state) => state === 'running')
    }
    await until('all run', allRun, STARTED_WITHIN_MS)
    assert.match(await text(page, '#connection'), /live/)
    assert.match(await text(page, '#pipeline-summary'), /^All is well: 12 of 12 stages are running/)
  })

  await t.test('refuses its controls without the token, and with it the rate changes', async () => {
    await setRate(page, RATE)
    await until('it refuses', async () => /needs the token/.test(await text(page, '#control-result')))
    assert.equal(await text(page, '#rate-now'), 'Now 0.')
    await page.fill('#token', TOKEN)
    await page.click('#token-form button')
    await setRate(page, RATE)
    await until('the rate is another', async () => (await text(page, '#rate-now')) === `Now ${RATE}.0.`)
    assert.match(await text(page, '#control-result'), /places 25\.0 orders per second now/)
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('token')), false)
  })

  await t.test('can be read and used by everybody, on any screen, in light and dark', async (t) => {
    await until(
      'orders flow',
      async () => (await numberIn(page, `${tile('confirmed')} .tile-values`)) > LEAST_CONFIRMED,
    )
    await page.click('.group[data-group=mail] summary')
    const directory = await screenshotDirectory(t)
    const looks = [
      { name: 'light', colorScheme: 'light', viewport: { width: 1440, height: 900 } },
      { name: 'dark', colorScheme: 'dark', viewport: { width: 1440, height: 900 } },
      { name: 'wall', colorScheme: 'dark', viewport: { width: 1920, height: 1080 } },
      { name: 'phone', colorScheme: 'light', viewport: { width: 375, height: 812 } },
    ] as const
    for (const { name, ...look } of looks) {
      await page.emulateMedia(look)
      await page.setViewportSize(look.viewport)
      await page.evaluate(() => scrollTo(0, 0))
      await page.screenshot({ path: join(directory, `dashboard-${name}.png`) })
      // On the wall are the colours of the one and the elements of the other; a phone comes below, with more on it.
      if (name === 'light' || name === 'dark') assert.deepEqual(await findBarriers(page), [], name)
      assert.equal(await widthOf(page), look.viewport.width, `${name}: nothing is wider than the page`)
    }
    await page.setViewportSize({ width: 1440, height: 900 })
    await page.click('#theme')
    await page.click('#theme')
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'dark')
    await page.click('#theme')
  })

  await t.test('can be gone through by keyboard, from the skip link on, without a trap', async () => {
    await page.focus('.skip-link')
    // Put there by the keyboard, it has to be seen.
    await page.keyboard.press('Tab')
    await page.keyboard.press('Shift+Tab')
    const seen = new Set<string>()
    let isThrough = false
    for (let tabs = 0; tabs < MOST_TABS && !isThrough; tabs++) {
      const focused = await page.evaluate(describeFocus)
      isThrough = focused === '' || (tabs > 0 && focused.name.includes(SKIP_LINK))
      if (focused === '') break
      assert.ok(focused.isMarked, `the focus on ${focused.name} can be seen`)
      seen.add(focused.name)
      await page.keyboard.press('Tab')
    }
    assert.ok(isThrough, 'it comes to the end')
    const wanted = [SKIP_LINK, 'Theme: automatic', '#token', '#order-id', 'summary']
    for (const part of wanted) {
      assert.ok(
        [...seen].some((name) => name.includes(part)),
        `${part} is reached: ${[...seen].join(' | ')}`,
      )
    }
  })

  await t.test(
    'pauses a service, and shows by partition who reads it and the lag that Kafka itself tells',
    async () => {
      await control(page, 'validator', 'pause')
      await until('it is paused', async () => (await stateOf(page, 'validator')) === 'paused')
      const lag = '[data-stage=validator] [data-fact=lag] dd'
      await until('orders wait for it', async () => (await numberIn(page, lag)) > LEAST_WAITING)
      await stopPlacing(page)
      await page.click('.group[data-group=validator] summary')
      const { rows } = await untilEqual(
        () => showPartitions(page),
        () => askKafkasTool(config, 'validator'),
      )
      assert.equal(rows.length, 3)
      for (const { committed, end, lag, member } of rows) {
        assert.equal(lag, end - committed)
        assert.match(member, /-[0-9a-f]{12}$/)
      }
      const waiting = rows.reduce((sum, { lag }) => sum + lag, 0)
      assert.equal(await numberIn(page, lag), waiting)
      assert.equal(await text(page, '.group[data-group=validator] .group-members'), '1 member')
      await control(page, 'validator', 'resume')
      await until('it works them off', async () => (await numberIn(page, lag)) === 0)
      assert.equal(await stateOf(page, 'validator'), 'running')
      for (const kind of ['paused', 'resumed']) {
        await page.waitForSelector(`.fault[data-kind=${kind}][data-service=validator]`)
      }
    },
  )

  await t.test('breaks the gateway until the circuit opens, and shows it close again', async () => {
    await setRate(page, RATE)
    await page.click('#gateway-form button[value=failing]')
    await page.waitForSelector('[data-stage=payment] .note >> text=circuit open')
    assert.match(await text(page, '#pipeline-summary'), /Payment's circuit is open/)
    await page.waitForSelector('.fault[data-kind=circuit-open][data-service=payment]')
    await page.click('#gateway-form button[value=healthy]')
    await page.waitForSelector('.fault[data-kind=circuit-closed][data-service=payment]')
    await page.waitForSelector('[data-stage=payment] .note', { state: 'hidden' })
  })

  await t.test('shows after a drained run what the audit finds', async () => {
    await stopPlacing(page)
    await untilNothingIsLeft(config)
    const { ok, totals } = await audit(pipeline)
    assert.ok(ok)
    const { validated, rejected, confirmed, cancelled, deadLettersOpen, validatedMinor, capturedMinor } =
      totals
    const ends = { confirmed, cancelled, rejected }
    const figures = { validated, deadLetters: deadLettersOpen, validatedMinor, capturedMinor }
    await untilEqual(
      async () => ({
        validated: await numberIn(page, `${tile('orders')} .tile-note`),
        // None was redriven: all that there ever were are open.
        deadLetters: await numberIn(page, `${tile('dead-lettered')} .tile-values`),
        validatedMinor: parseMoneys(await text(page, `${tile('booked')} .tile-note`)),
        capturedMinor: parseMoneys(await text(page, `${tile('captured')} .tile-note`)),
        tiles: await readEnds(page, (end) => `${tile(end)} .tile-values`),
        table: await readEnds(page, (end) => `[data-end=${end}] .number`),
        lags: [...new Set(await page.locator('.group-lag').allTextContents())],
      }),
      async () => ({ ...figures, tiles: ends, table: ends, lags: ['lag 0'] }),
    )
  })

  await t.test('shows a service that was killed as gone within 15 s, and as back after', async () => {
    await control(page, 'fraud', 'kill')
    await until('it is gone', async () => (await stateOf(page, 'fraud')) === 'gone', GONE_WITHIN_MS)
    assert.match(await text(page, '#pipeline-summary'), /Fraud is gone/)
    assert.match(await text(page, '#control-result'), /Fraud is killed/)
    assert.equal(await page.locator('.fault[data-kind=instance-gone][data-service=fraud]').count(), 1)
    start('fraudService')
    await until('it is back', async () => (await stateOf(page, 'fraud')) === 'running')
    for (const kind of ['instance-back', 'rebalance']) {
      await page.waitForSelector(`.fault[data-kind=${kind}][data-service=fraud]`)
    }
  })

  await t.test('shows what comes from orders as text, whatever it is', async () => {
    await placeHostileOrder(pipeline)
    await page.waitForSelector('#products .product-name >> text=onerror')
    assert.equal(await text(page, '#products .product-name'), HOSTILE)
    await page.waitForSelector('[data-end=rejected] th >> text=onerror')
    assert.equal(await page.locator('main img, main script').count(), 0)
    assert.equal(await page.title(), 'Order pipeline')
  })

  await t.test('finds an order that was just placed, with the whole of its way within 2 s', async (t) => {
    // Not with each on a machine that has much else to do.
    await until('one is whole within 2 s', async () => {
      const tookMs = await lookUp(page, await placeOrder(pipeline, 1))
      t.diagnostic(`found and whole after ${Math.round(tookMs)} ms`)
      return tookMs < WHOLE_WITHIN_MS
    })
    const placed = page.locator('#order-way .way-step').first()
    await placed.locator('summary').click()
    assert.ok((await placed.locator('pre').textContent())?.includes(JSON.stringify(HOSTILE)))
    assert.equal(await page.locator('main img, main script').count(), 0)
  })

  await t.test('fills the table of a replay beside the live one, and both agree', async () => {
    const asked: string[] = []
    page.on(
      'request',
      (request) => request.method() === 'POST' && asked.push(new URL(request.url()).pathname),
    )
    const button = page.locator('#replay button >> text=All that is shown live')
    await button.focus()
    await button.evaluate((element: HTMLElement) => {
      element.click()
      element.click()
    })
    const status = '#replay .panel-summary'
    await until('it has read all', async () => /records read in/.test(await text(page, status)))
    assert.match(await text(page, status), /^Both tables agree/)
    assert.ok((await page.locator('#replay tr[data-result=equal]').count()) > 0)
    assert.deepEqual(asked, ['/replays'], 'one at a time')
    assert.equal(await button.evaluate((element) => element === document.activeElement), true)
  })

  await t.test('can be read and used on a phone with a way and a replay on it', async () => {
    await page.setViewportSize({ width: 375, height: 812 })
    assert.equal(await widthOf(page), 375)
    assert.deepEqual(await findBarriers(page), [])
    await page.setViewportSize({ width: 1440, height: 900 })
  })

  await t.test('survives a restart of its server without being loaded again', async () => {
    const before = await figuresOf(page)
    services.get('analytics')!.child.kill('SIGKILL')
    await until('it says so', async () => /reconnecting, since \d/.test(await text(page, '#connection')))
    start('analytics')
    await until('it is live again', async () => /live/.test(await text(page, '#connection')))
    await until('it has the same figures', async () => (await figuresOf(page)) === before)
    assert.equal(await page.locator('body[data-loaded-once]').count(), 1)
  })

  await t.test('has asked nobody but its server, and broken no rule of its policy', async () => {
    assert.deepEqual([...watched.hosts], [new URL(url).host])
    assert.deepEqual(watched.complaints, [])
    assert.ok(!services.get('analytics')!.lines.join().includes(TOKEN), 'the log gives the token away')
    const answer = await fetch(url)
    assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/)
  })

  await t.test('does not grow, however long it is open', async (t) => {
    // What it says in between would begin the charts anew, did it come after a pause.
    await stopScript(services.get('analytics')!.child)
    const session = await page.context().newCDPSession(page)
    const full = await liveThrough(page, 1_000)
    const held = await measureMemory(session)
    assert.equal(full.points, 900)
    assert.deepEqual(await liveThrough(page, 1_000), full, 'it shows no more than when all was full')
    // Of a thousand that were forgotten, hardly anything is left.
    const later = await measureMemory(session)
    t.diagnostic(`held ${JSON.stringify(held)}, and after as much again ${JSON.stringify(later)}`)
    assert.ok(later.nodes < held.nodes + 500, `${later.nodes} nodes after ${held.nodes}`)
    assert.ok(later.listeners < held.listeners + 100, `${later.listeners} after ${held.listeners}`)
    assert.ok(later.heapBytes < held.heapBytes + 4_000_000, `${later.heapBytes} after ${held.heapBytes}`)
  })
})

/** Runs in the page. */
function describeFocus() {
  const focused = document.activeElement
  if (!focused || focused === document.body) return ''
  const { outlineStyle, outlineWidth } = getComputedStyle(focused)
  const { id, localName, textContent } = focused
  const isMarked = outlineStyle !== 'none' && outlineWidth !== '0px'
  return { name: `${localName} #${id} ${textContent.trim().slice(0, 30)}`, isMarked }
}

async function setRate(page: Page, ratePerSecond: number): Promise<void> {
  await page.fill('#rate', String(ratePerSecond))
  await page.click('#rate-form button')
}

async function stopPlacing(page: Page): Promise<void> {
  await setRate(page, 0)
  await until('it places no more', async () => (await text(page, '#rate-now')) === 'Now 0.')
}

async function control(page: Page, service: string, name: 'pause' | 'resume' | 'kill'): Promise<void> {
  await page.selectOption('#service', service)
  await page.click(`#service-form button[value=${name}]`)
}

const widthOf = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth)

/** Waits until the page shows what it should, all of it at once. @throws AssertionError with what differs */
async function untilEqual<Figures>(
  show: () => Promise<Figures>,
  want: () => Promise<Figures>,
): Promise<Figures> {
  let shown: Figures | undefined
  let wanted: Figures | undefined
  const isEqual = async () => {
    wanted = await want()
    shown = await show()
    return isDeepStrictEqual(shown, wanted)
  }
  await until('the page shows what there is', isEqual).catch((error) => {
    assert.deepEqual(shown, wanted)
    throw error
  })
  return shown!
}

async function readEnds(page: Page, selectorOf: (end: string) => string) {
  return {
    confirmed: await numberIn(page, selectorOf('confirmed')),
    cancelled: await numberIn(page, selectorOf('cancelled')),
    rejected: await numberIn(page, selectorOf('rejected')),
  }
}

/** The partitions of orders.raw with who reads them. */
interface Reading {
  rows: { partition: number; committed: number; end: number; lag: number; member: string }[]
}

function toReading(cells: string[][]): Reading {
  const rows = cells.map(([, partition, committed, end, lag, member]) => {
    return {
      partition: Number(partition),
      committed: Number(committed),
      end: Number(end),
      lag: Number(lag),
      member: member!,
    }
  })
  return { rows: rows.sort((a, b) => a.partition - b.partition) }
}

/** As the page has them, of the validator. */
async function showPartitions(page: Page): Promise<Reading> {
  const cells = await page
    .locator('.group[data-group=validator] tbody tr')
    .evaluateAll((rows) =>
      rows.map((row) =>
        [...row.children].map((cell) => cell.getAttribute('title') ?? cell.textContent.replaceAll(',', '')),
      ),
    )
  return toReading(cells.filter(([topic]) => topic === 'orders.raw'))
}

/** What `kafka-consumer-groups.sh --describe` says. */
async function askKafkasTool({ kafka, topicPrefix, topics }: Config, group: string): Promise<Reading> {
  const [classpath, java] = await Promise.all([kafkaClasspath(), findJava()])
  const { stdout } = await promisify(execFile)(java.command, [
    ...['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', classpath],
    ...['org.apache.kafka.tools.consumer.group.ConsumerGroupCommand'],
    ...['--bootstrap-server', kafka.brokers[0]!, '--describe', '--group', topicPrefix + group],
  ])
  const lines = stdout.split('\n').map((line) => line.trim().split(/\s+/).slice(1))
  return toReading(lines.filter(([topic]) => topic === topics.ordersRaw.name))
}

/** SCREENSHOTS_DIR, or one that is taken away again. */
async function screenshotDirectory(t: TestContext): Promise<string> {
  const { SCREENSHOTS_DIR } = process.env
  if (SCREENSHOTS_DIR) {
    mkdirSync(SCREENSHOTS_DIR, { recursive: true })
    return SCREENSHOTS_DIR
  }
  const directory = await mkdtemp(join(tmpdir(), 'dashboard-'))
  t.after(() => rm(directory, { recursive: true }))
  return directory
}

async function untilNothingIsLeft(config: Config): Promise<void> {
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const groups = workingGroups(config.topicPrefix, config.topics)
  const isDrained = async () =>
    (await readTally(config, WHOLE_LIFE)).isEven && (await fetchLag(kafka, groups)) === 0
  await until('all orders have come to their ends', isDrained, 120_000, READ_ALL_POLL_MS)
}

async function audit({ env }: Pipeline): Promise<AuditReport> {
  const said: string[] = []
  const { lines } = await runToEnd({
    script: 'tools/verify.ts',
    args: ['--drained', '--json'],
    env: { ...process.env, ...env },
    print: (line) => void said.push(line),
  })
  assert.ok(lines[0], said.join('\n'))
  return JSON.parse(lines[0]) as AuditReport
}

/** 'in all EUR 1,234.56, JPY 7' in minor units. */
function parseMoneys(said: string): Record<string, number> {
  const amounts = [...said.matchAll(/([A-Z]{3})\s([\d,.]+\d)/g)]
  return Object.fromEntries(
    amounts.map(([, currency, amount]) => [currency, Number(amount!.replace(/[,.]/g, ''))]),
  )
}

const PRODUCT = { sku: 'SKU-HOSTILE', unitPrice: 1, currency: 'EUR' }

async function post({ services }: Pipeline, path: string, body: object): Promise<unknown> {
  const api = /listening on (\S+),/.exec(services.get('api')!.lines.join('\n'))![1]!
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(`${api}${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.ok(answer.ok, await answer.clone().text())
  return answer.json()
}

/** @returns its id */
async function placeOrder(pipeline: Pipeline, quantity: number): Promise<string> {
  const { sku, unitPrice, currency } = PRODUCT
  const items = [{ sku, name: HOSTILE, quantity, unitPrice }]
  const answer = await post(pipeline, '/orders', { customerId: 'cust-0001', currency, items })
  return (answer as { orderId: string }).orderId
}

/** @returns in how many milliseconds its way is shown as a whole */
async function lookUp(page: Page, orderId: string): Promise<number> {
  const startedMs = performance.now()
  await page.fill('#order-id', orderId)
  await page.press('#order-id', 'Enter')
  const hasText = new RegExp(`^${orderId} is (confirmed|cancelled)`)
  await page.locator('#order-way .panel-summary', { hasText }).waitFor()
  return performance.now() - startedMs
}

/** Of the most expensive kind, and a rejection with a reason that no validator has. */
async function placeHostileOrder(pipeline: Pipeline): Promise<void> {
  const { config } = pipeline
  await post(pipeline, '/products', { ...PRODUCT, name: HOSTILE, stock: { quantity: 100_000 } })
  await placeOrder(pipeline, 90_000)
  const producer = createKafka(config, 'test', createLogger('test', config.log)).producer()
  await producer.connect()
  const orderId = 'hostile-2'
  const rejected = {
    type: 'OrderRejected',
    eventId: eventIdOf(orderId, 'OrderRejected'),
    occurredAt: new Date().toISOString(),
    orderId,
    customerId: 'cust-0001',
    placedAt: new Date().toISOString(),
    currency: 'EUR',
    total: 1,
    reasons: [{ code: HOSTILE, message: HOSTILE }],
  }
  const topic = config.topics.ordersRejected.name
  await producer.send({ topic, messages: [{ key: orderId, value: JSON.stringify(rejected) }] })
  await producer.disconnect()
}

/** What the page holds once all that nobody needs is thrown away, what is on it and what is not. */
async function measureMemory(session: CDPSession) {
  await session.send('Performance.enable')
  await session.send('HeapProfiler.collectGarbage')
  const { metrics } = await session.send('Performance.getMetrics')
  const read = (wanted: string) => metrics.find(({ name }) => name === wanted)?.value ?? Number.NaN
  return { nodes: read('Nodes'), listeners: read('JSEventListeners'), heapBytes: read('JSHeapUsedSize') }
}

/** All that is counted, as the page says it. */
async function figuresOf(page: Page): Promise<string> {
  const said = await page.locator('.tile-note, #ends .number, #products .number').allTextContents()
  return said.join(' ')
}

/**
 * So many seconds of the liveliest life, by the page's own handlers; everything that can differ from one second to the next
 * does.
 */
async function liveThrough(page: Page, seconds: number): Promise<{ nodes: number; points: number }> {
  return page.evaluate(async (seconds) => {
    type Hooks = {
      page: {
        latest: DashboardSnapshot
        series: { seconds: number[] }
        takeSnapshot(snapshot: DashboardSnapshot): void
      }
    }
    const script = '/main.js'
    const { page: hooks } = (await import(script)) as Hooks
    let latest = hooks.latest
    let atMs = (hooks.series.seconds.at(-1) ?? 0) * 1_000
    for (let second = 0; second < seconds; second++) {
      atMs += 1_000
      const id = (latest.faults[0]?.id ?? 0) + 1
      const fault = {
        id,
        atMs,
        kind: 'rebalance',
        service: `service-${id % 7}`,
        text: `number ${id}`,
      } as const
      const minute = new Date(atMs).toISOString()
      const topProducts = Array.from({ length: 10 }, (_, rank) => {
        return {
          sku: `SKU-${id + rank}`,
          name: `${id}`,
          quantity: 100 - rank,
          bookedRevenueMinor: { EUR: id },
        }
      })
      const member = `member-${id}`
      latest = {
        ...latest,
        atMs,
        bookedPerMinuteMinor: { EUR: id, [`X${String.fromCharCode(65 + (id % 26))}X`]: id },
        ends: { ...latest.ends, cancelled: { orders: id, reasons: { [`reason-${id}`]: 1 } } },
        faults: [fault, ...latest.faults].slice(0, 100),
        minutes: [...latest.minutes, { minute, orders: id, bookedRevenueMinor: { EUR: id } }].slice(-30),
        topProducts,
        groups: latest.groups.map((group) => ({
          ...group,
          members: [{ id: member, host: '/127.0.0.1', partitions: [0] }],
          partitions: group.partitions.map((partition) => ({ ...partition, member, end: id })),
        })),
      }
      hooks.takeSnapshot(latest)
      // As the seconds would: the charts draw once in a while.
      if (second % 100 === 0) await new Promise((resolve) => setTimeout(resolve))
    }
    return { nodes: document.querySelectorAll('*').length, points: hooks.series.seconds.length }
  }, seconds)
}
