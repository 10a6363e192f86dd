import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { createLogger } from '../lib/log.ts'
import { readPlan } from '../lib/producerFlags.ts'
import { formatDuration, Progress } from '../lib/progress.ts'
import { readTopics } from '../lib/topicReader.ts'
import { testEnvironment, until } from './harness.ts'

const PRODUCER = fileURLToPath(new URL('../producer.ts', import.meta.url))

async function setUp(t: TestContext, settings: Record<string, string> = {}) {
  const env = await testEnvironment(t, { LOG_LEVEL: 'info', NO_COLOR: '1', ...settings })
  const config = parseConfig({ ...env, LOG_LEVEL: 'silent' })
  await ensureTopics(config, () => undefined)
  const directory = await mkdtemp(join(tmpdir(), 'producer-'))
  t.after(() => rm(directory, { recursive: true }))
  const fileWith = async (name: string, content: string) => {
    await writeFile(join(directory, name), content)
    return join(directory, name)
  }
  return { env, config, fileWith, start: (args: string[], more = {}) => start(t, args, { ...env, ...more }) }
}

function start(t: TestContext, args: string[], settings: Record<string, string>) {
  // The rate of whoever runs the tests must not win over the file.
  const { ORDERS_PER_SECOND: _, ...env } = process.env
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', PRODUCER, ...args], {
    env: { ...env, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  child.stdout!.on('data', (text) => {
    output.stdout += text
  })
  child.stderr!.on('data', (text) => {
    output.stderr += text
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  t.after(() => child.kill('SIGKILL'))
  return { child, output, ended }
}

const lastJson = (stdout: string) => JSON.parse(stdout.trim().split('\n').at(-1)!)

async function readRaw(config: ReturnType<typeof parseConfig>) {
  const records: { key: string | null; value: string }[] = []
  const log = createLogger('test', config.log)
  await readTopics({
    ...{ kafka: createKafka(config, 'test', log), topics: [config.topics.ordersRaw.name], log },
    ...{ from: 'beginning', until: 'end' },
    onRecords(_topic, _partition, some) {
      for (const { key, value } of some) records.push({ key: key && String(key), value: String(value) })
    },
  })
  return records
}

test('so many orders as asked for are placed, and the last line says how many of them were bad', async (t) => {
  const { config, start } = await setUp(t, { BAD_ORDER_RATIO: '0.1' })
  const { output, ended } = start(['--orders', '2500', '--max', '--seed', '3', '--json'])
  assert.equal(await ended, 0, output.stderr)
  const { placed, bad, seconds } = lastJson(output.stdout)
  assert.equal(placed, 2_500)
  assert.ok(seconds > 0)
  const badTotal = Object.values<number>(bad).reduce((sum, count) => sum + count, 0)
  assert.ok(badTotal > 150 && badTotal < 350, `${badTotal}`)
  const records = await readRaw(config)
  assert.equal(records.length, 2_500)
  assert.equal(records.filter(({ key }) => key === null).length, bad['no-key'])
})

test('a change of the rate in the file takes effect while it runs, a wrong one changes nothing, a signal ends it', async (t) => {
  const { fileWith, start, config } = await setUp(t)
  const envFile = await fileWith('.env', 'ORDERS_PER_SECOND=0\n')
  const { child, output, ended } = start(['--json'], { ENV_FILE: envFile })
  await until('it is paused', () => output.stderr.includes('0/s (paused)'))
  await fileWith('.env', 'ORDERS_PER_SECOND=many\n')
  await until('it complains', () => output.stderr.includes('ORDERS_PER_SECOND=many is not usable'))
  assert.ok(!output.stderr.includes('placed'))
  await fileWith('.env', 'ORDERS_PER_SECOND=200\n')
  await until('it is faster', () => output.stderr.includes('is now 200/s'))
  await until('it places', () => /placed \d+\/s/.test(output.stderr))
  child.kill('SIGINT')
  assert.equal(await ended, 0)
  const { placed } = lastJson(output.stdout)
  assert.ok(placed > 0)
  assert.equal((await readRaw(config)).length, placed)
})

test('an exported rate wins over the file', async (t) => {
  const { fileWith, start } = await setUp(t)
  const envFile = await fileWith('.env', 'ORDERS_PER_SECOND=0\n')
  const { output, ended } = start(['--orders', '20', '--json'], {
    ENV_FILE: envFile,
    ORDERS_PER_SECOND: '100',
  })
  assert.equal(await ended, 0, output.stderr)
  assert.equal(lastJson(output.stdout).placed, 20)
})

test('a history is replayed: an order for each invoice, garbage reported and still sent, progress in plain lines', async (t) => {
  const { fileWith, start, config } = await setUp(t)
  const line = (invoice: number, minute: string) =>
    `${invoice},A,"LANTERN, RED",2,2011-07-01 08:${minute}:00,1.25,17850.0,United Kingdom`
  const file = await fileWith(
    'history.csv',
    [
      'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country',
      ...[line(1, '00'), line(1, '00'), line(2, '01'), '2,B,too few columns', line(3, '02')],
    ].join('\n'),
  )
  // Two minutes, a hundred times as fast.
  const { output, ended } = start(['--file', file, '--speed', '100', '--json'])
  assert.equal(await ended, 0, output.stderr)
  const { placed, bad, seconds } = lastJson(output.stdout)
  assert.deepEqual([placed, bad], [3, { unreadable: 1 }])
  assert.ok(seconds >= 1.2 && seconds < 10, `${seconds}`)
  assert.match(output.stderr, /history\.csv line 5 cannot be understood: it has 3 columns, not 8/)
  assert.match(output.stderr, /100 % {2}3 of 3 orders/)
  assert.ok(!output.stderr.includes('\u001b['))
  const records = await readRaw(config)
  assert.deepEqual(records.map(({ key }) => key).sort(), ['1', '2', '3'])
  const first = config.topics.ordersRaw.decode(Buffer.from(records.find(({ key }) => key === '1')!.value))
  assert.deepEqual([first.placedAt, first.total], ['2011-07-01T07:00:00.000Z', 500])
})

test('flags that contradict each other, and values that are none, are refused with a sentence', () => {
  const refused: Parameters<typeof readPlan>[0][] = [
    ...[
      { max: true, rate: '5' },
      { speed: '2' },
      { orders: '0' },
      { orders: 'ten' },
      { rate: '0' },
      { rate: '' },
    ],
    ...[
      { file: 'f', speed: '-1' },
      { file: 'f', speed: '2', rate: '3' },
      { file: 'f', speed: '2', max: true },
    ],
    ...[{ file: 'f', seed: '1' }, { seed: '1.5' }, { seed: '-1' }, { orders: '1.5' }],
  ]
  for (const flags of refused) assert.throws(() => readPlan(flags), ConfigurationError, JSON.stringify(flags))
  assert.deepEqual(readPlan({ file: 'f', rate: '5', orders: '7' }), {
    source: { kind: 'file', file: 'f', tempo: { ratePerSecond: 5 } },
    orders: 7,
    json: false,
  })
  const { source } = readPlan({ seed: '5' })
  assert.deepEqual(source, { kind: 'simulator', seed: 5, rate: 'environment' })
})

test('progress is a bar that is drawn again on a terminal, and a line every two seconds elsewhere', () => {
  const show = (isTTY: boolean, color: boolean) => {
    let text = ''
    let nowMs = 0
    const output = { isTTY, columns: 100, write: (more: string) => (text += more) }
    const progress = new Progress({ total: 1_000, unit: 'orders', output, color, nowMs: () => nowMs })
    for (nowMs = 100; nowMs <= 5_000; nowMs += 100) progress.update(nowMs / 10)
    progress.note('look')
    progress.finish(500)
    return text
  }
  assert.deepEqual(show(false, false).split('\n'), [
    '20 %  200 of 1,000 orders  100/s  8 s left',
    '40 %  400 of 1,000 orders  100/s  6 s left',
    'look',
    '50 %  500 of 1,000 orders  98/s  in 6 s',
    '',
  ])
  const bar = show(true, false)
  assert.equal(bar.split('\r').length, 28)
  assert.match(bar, /█+░+ 40 % {2}400 of 1,000/)
  assert.ok(!bar.includes('\u001b[36m') && show(true, true).includes('\u001b[36m'))
})

test('durations read as people say them', () => {
  assert.deepEqual([400, 59_000, 61_000, 7_260_000, Number.NaN].map(formatDuration), [
    ...['1 s', '59 s', '1 min 1 s', '2 h 1 min', 'unknown time'],
  ])
})
