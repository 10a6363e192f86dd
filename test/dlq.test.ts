import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import type { DeadLetterSummary } from '../lib/deadLetterQueue.ts'
import { runDlq } from '../lib/dlqCommands.ts'
import { formatLetters, printable } from '../lib/dlqDisplay.ts'
import { DLQ_FLAGS, readDlqPlan } from '../lib/dlqPlan.ts'
import { describe, PipelineError } from '../lib/errors.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import { createLogger } from '../lib/log.ts'
import { Processor } from '../lib/processor.ts'
import { headerText, publish } from '../lib/record.ts'
import { GROUPS, groupsOf } from '../lib/topics.ts'
import { runScript, testEnvironment, until } from './harness.ts'
import {
  assertEachOnce,
  ids,
  readAll,
  send,
  startProcessor,
  type TestGroup,
  testGroup,
  toMessage,
  toMessages,
  untilDrained,
} from './processorHarness.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface ToolRun {
  status: number
  stdout: string
  stderr: string
}

/** Runs the tool as a user does in a pipe. */
function runTool(
  { environment }: { environment: Record<string, string> },
  ...flags: string[]
): Promise<ToolRun> {
  const env = { ...process.env, ...environment }
  return new Promise((resolve) => {
    const args = ['--import', 'tsx', 'tools/dlq.ts', ...flags]
    const child = execFile(process.execPath, args, { cwd: ROOT, env }, (_, stdout, stderr) =>
      resolve({ status: child.exitCode ?? -1, stdout, stderr }),
    )
  })
}

/** The same without a process of its own; its flags as one text. */
async function dlq(
  { config, log }: Pick<TestGroup, 'config' | 'log'>,
  text: string,
  answer?: boolean,
): Promise<ToolRun> {
  const [command, ...args] = text.split(' ')
  const run: ToolRun = { status: 0, stdout: '', stderr: '' }
  const context = {
    config,
    kafka: createKafka(config, 'dlq', log),
    log,
    signal: new AbortController().signal,
  }
  try {
    const { values } = parseArgs({ options: DLQ_FLAGS, args })
    const plan = readDlqPlan(command, values, groupsOf(config.topics))
    const isAllDone = await runDlq(context, plan, {
      async print(out) {
        run.stdout += out
      },
      notes: {
        write(note) {
          run.stderr += note
        },
      },
      columns: undefined,
      ask: answer === undefined ? undefined : async () => answer,
    })
    run.status = isAllDone ? 0 : 1
  } catch (error) {
    if (!(error instanceof PipelineError)) throw error
    run.status = 1
    run.stderr += describe(error)
  }
  return run
}

interface Listed {
  total: number
  states: Record<string, number>
  kinds: { group: string; kind: string; letters: number }[]
  letters: {
    position: string
    source: string
    state: string
    order: string
    redrives: number
    reason: string
  }[]
}

async function list(group: TestGroup, flags = ''): Promise<Listed> {
  const { status, stdout, stderr } = await dlq(group, `list --json --group validator ${flags}`.trim())
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout) as Listed
}

/** A group that throws on some records until it is mended. */
function startWithBug(t: TestContext, group: TestGroup): { mend(): void } {
  let isMended = false
  startProcessor(t, group, {
    handle(records) {
      if (!isMended && records.some(({ event }) => event.note === 'bug')) throw new Error('a bug at line 7')
      return records.map(({ event: { id } }) => [publish(group.output, { id }, '')])
    },
  })
  return {
    mend() {
      isMended = true
    },
  }
}

const failing = (id: string) => toMessage({ id, note: 'bug' })

test('after a fix all that failed is redriven, by two at once, and each has its effect once', async (t) => {
  const group = await testGroup(t)
  const service = startWithBug(t, group)
  const good = ids('good', 20)
  const bad = ids('bad', 30)
  // More than is held at a time, so that it is read in several goes.
  const large = ids('large', 6)
  const filler = 'x'.repeat(3_900_000)
  await send(group, group.first, 0, [...toMessages(good), ...bad.slice(0, 10).map(failing)])
  await send(group, group.first, 1, bad.slice(10).map(failing))
  for (const id of large) {
    await send(group, group.first, 1, [{ key: id, value: JSON.stringify({ id, note: 'bug', filler }) }])
  }
  await untilDrained(group)

  const before = await list(group)
  assert.deepEqual([before.total, before.states], [36, { open: 36 }])
  assert.deepEqual(before.kinds, [
    { group: 'validator', kind: 'processing failed: a bug at line …', letters: 36 },
  ])

  service.mend()
  const redrive = () => runTool(group, 'redrive', '--yes', '--json')
  const runs = await Promise.all([redrive(), redrive()])
  for (const { status, stderr } of runs) assert.equal(status, 0, stderr)
  const redriven = runs.map(({ stdout }) => JSON.parse(stdout).redriven as number)
  assert.ok(redriven[0]! + redriven[1]! >= 36, `${redriven}`)
  await untilDrained(group)
  assertEachOnce(
    (await readAll(group, group.output)).map(({ id }) => id),
    [...good, ...bad, ...large],
  )
  assert.equal((await readAll(group, group.deadLetters)).length, 36, 'nothing failed anew')
  assert.equal((await list(group)).total, 0)
  const settled = await list(group, '--all --limit 1')
  assert.deepEqual([settled.states, settled.letters.length], [{ redriven: 36 }, 1])
  assert.match((await dlq(group, 'redrive')).stdout, /^0 dead letters redriven\n$/)
})

test('a release of a service that fails on every order is mended by another one and a redrive, and the audit passes', async (t) => {
  const environment = await testEnvironment(t, {
    GATEWAY_LATENCY_MS: '0',
    BAD_ORDER_RATIO: '0.05',
    DECISION_TIMEOUT_MS: '300000',
  })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const { ordersValidated, inventoryEvents, deadLetters, retries } = config.topics
  const log = createLogger('test', config.log)
  const broken = new Processor({
    group: `${config.topicPrefix}inventory`,
    work: {
      inputs: [ordersValidated],
      createState: () => undefined,
      handle() {
        throw new Error('no such column')
      },
      maxBatchRecords: 500,
    },
    outputs: [inventoryEvents],
    deadLetters: deadLetters.inventory,
    retries: retries.inventory,
    createKafka: (purpose) => createKafka(config, purpose, log),
    sessionTimeoutMs: config.kafka.sessionTimeoutMs,
    commitIntervalMs: config.kafka.commitIntervalMs,
    log,
  })
  void broken.run()
  t.after(() => broken.stop())
  const others = ['paymentService', 'fraudService', 'pricingService', 'fulfilmentService']
  for (const script of ['validator', ...others]) runScript(t, script, environment)
  const producer = runScript(t, 'producer', environment, ['--orders', '200', '--max'])
  assert.equal(await ended(producer.child), 0, producer.lines.join('\n'))
  const working = workingGroups(config.topicPrefix, config.topics)
  const kafka = createKafka(config, 'test', log)
  const untilDone = () => until('no lag', async () => (await fetchLag(kafka, working)) === 0, 60_000, 200)
  await untilDone()
  await broken.stop()

  const pipeline = { environment, config, log }
  const left = JSON.parse((await dlq(pipeline, 'list --json --group inventory')).stdout) as Listed
  assert.ok(left.total > 100, `${left.total}`)
  const redrive = () => dlq(pipeline, 'redrive --yes --group inventory')
  const mended = runScript(t, 'inventoryService', environment)
  await Promise.all([redrive(), redrive()])
  mended.child.kill('SIGKILL')
  await redrive()
  runScript(t, 'inventoryService', environment)
  await untilDone()

  const after = JSON.parse((await dlq(pipeline, 'list --json --group inventory')).stdout) as Listed
  assert.equal(after.total, 0)
  const audit = runScript(t, 'tools/verify', environment, ['--drained', '--json'])
  assert.equal(await ended(audit.child), 0, audit.lines.join('\n'))
})

test('what fails again and again is refused in the end, and can be dropped', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  startWithBug(t, group)
  const broken = { key: 'torn', value: '{ "half": ' }
  await send(group, group.first, 0, [failing('a'), failing('b'), broken])
  await untilDrained(group)

  const unasked = await dlq(group, 'redrive --reason bug')
  assert.deepEqual([unasked.status, unasked.stdout], [1, ''])
  assert.match(unasked.stderr, /to redrive 2 dead letters it wants to be told so: add --yes/)

  const again = await dlq(group, 'redrive --order a')
  assert.deepEqual([again.status, again.stdout], [0, '1 dead letter redriven\n'], again.stderr)
  await untilDrained(group)
  const [letter] = (await list(group, '--order a')).letters
  assert.deepEqual([letter!.state, letter!.redrives, letter!.source], ['open', 1, `${group.first.name}/0/0`])

  await send(group, group.first, 0, [failing('c')])
  await untilDrained(group)
  const refused = await dlq(group, 'redrive --yes --max-redrives 1 --reason bug --limit 1')
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, new RegExp(`refused ${letter!.position} \\(a\\): redriven 1 of 1 times`))
  assert.match(refused.stdout, /^1 dead letter redriven, 1 refused\n$/)
  assert.match(refused.stderr, /1 dead letter more matches: run it again for the rest/)
  await untilDrained(group)
  const behind = await dlq(group, 'redrive --yes --max-redrives 1 --reason bug --limit 1')
  assert.match(behind.stdout, /^1 dead letter redriven, 2 refused\n$/, 'what is refused takes no place')
  await untilDrained(group)

  const byHand = await dlq(group, `drop --position ${letter!.position} --why obsolete`)
  assert.equal(byHand.status, 1, 'to give up is asked for')
  const refusedByHand = await dlq(group, `drop --position ${letter!.position}`, false)
  assert.deepEqual([refusedByHand.status, refusedByHand.stderr], [1, 'nothing was changed'])
  const dropped = await dlq(group, `drop --position ${letter!.position} --why obsolete`, true)
  assert.deepEqual([dropped.status, dropped.stdout], [0, '1 dead letter dropped\n'], dropped.stderr)
  assert.match((await dlq(group, 'drop --yes')).stdout, /^3 dead letters dropped\n/)
  await untilDrained(group)
  assert.equal((await list(group)).total, 0)
  // Whoever looked before and writes only now comes too late.
  const late = { 'dead-letter': letter!.position, source: letter!.source, redrives: '2' }
  await send(group, group.retries, 0, [{ ...toMessage({ id: 'a' }), headers: late }])
  await untilDrained(group)
  assert.deepEqual((await list(group, '--all')).states, { redriven: 3, dropped: 4 })
  assert.deepEqual(await readAll(group, group.output), [])
  const why = (await readAll(group, group.retries)).map(({ headers }) => headerText(headers, 'dropped'))
  assert.deepEqual(why, [
    undefined,
    undefined,
    undefined,
    'obsolete',
    'by hand',
    'by hand',
    'by hand',
    undefined,
  ])
})

test('a letter can be looked at, whatever is in it, and what is under way is told', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const service = startProcessor(t, group)
  const bytes = Buffer.from([0xff, 0x00, 0x41, 0x1b])
  await send(group, group.first, 0, [
    { key: 'evil', value: '\u001b[2J {"orderId":"ord-7"', headers: { note: Buffer.from([0xfe]) } },
    { key: null, value: bytes },
  ])
  await untilDrained(group)
  await service.stop()

  const text = await dlq(group, 'show --order evil')
  assert.equal(text.status, 0, text.stderr)
  assert.match(text.stdout, /reason +not JSON/)
  assert.match(text.stdout, /\\u\{1b\}\[2J \{"orderId"/)
  assert.match(text.stdout, / {2}note +0xfe\n/)
  assert.ok(!text.stdout.includes('\u001b'))
  const dump = await dlq(group, `show --position ${group.first.name}/0/1`)
  assert.match(dump.stdout, / {2}000000 {2}ff 00 41 1b +\.\.A\.\n/)
  const json = await dlq(group, `show --json --position ${group.deadLetters.name}/0/1`)
  assert.deepEqual(JSON.parse(json.stdout).value, { base64: bytes.toString('base64') })
  assert.equal((await dlq(group, 'show --order nobody')).status, 1)

  assert.equal((await dlq(group, 'redrive --order evil')).status, 0)
  assert.deepEqual((await list(group)).states, { 'under way': 1, open: 1 })
  // Neither a second time, nor given up behind its back.
  assert.match((await dlq(group, 'redrive --order evil')).stdout, /^0 dead letters/)
  const table = await dlq(group, 'list --group validator')
  assert.match(table.stdout, /^group +position +when +order .* reason\n/)
  assert.match(table.stdout, /\n2 dead letters: 1 under way, 1 open\n {2}validator +\d {2}not JSON/)
})

test('what cannot be is refused with a sentence', async (t) => {
  const group = { environment: await testEnvironment(t) }
  const [nothing, unknown, help] = await Promise.all([
    runTool(group, '--json'),
    runTool(group, 'list', '--fast'),
    runTool(group, '--help'),
  ])
  assert.deepEqual(nothing, {
    status: 1,
    stdout: '',
    stderr: 'dlq: say what to do: it takes list, show, redrive, drop (see --help)\n',
  })
  assert.match(unknown.stderr, /--fast.*\(see --help\)/)
  assert.match(help.stdout, /npm run dlq -- list \| show \| redrive \| drop/)
  const refusals: [string, Parameters<typeof readDlqPlan>[1], RegExp][] = [
    ['prune', {}, /'prune' is not known/],
    ['list', { group: 'stock' }, /--group stock is not usable: it takes one of validator,/],
    ['list', { limit: '0' }, /--limit 0 is not usable/],
    ['list', { yes: true }, /--yes goes with redrive and drop, not with list/],
    ['drop', { 'max-redrives': '2' }, /--max-redrives goes with redrive, not with drop/],
    ['redrive', { all: true }, /--all goes with list and show/],
    ['show', { position: '17' }, /--position 17 is not usable: it takes topic\/partition\/offset/],
    ['list', { since: 'soon' }, /--since soon/],
    ['list', { since: '2026-01-02', until: '2026-01-01' }, /--since must be before --until/],
  ]
  for (const [command, flags, sentence] of refusals) {
    assert.throws(() => readDlqPlan(command, flags, GROUPS), sentence)
  }
})

test('a table is as long as it has to be', () => {
  const letter = { group: 'validator', position: 'validator.dlq/0/1', whenMs: 0, reason: 'no', state: 'open' }
  const one = { ...letter, attempts: 1, redrives: 0, bytes: 3 } as DeadLetterSummary
  const table = formatLetters(Array.from({ length: 200_000 }, () => one))
  assert.equal(table.split('\n').length, 200_002)
})

test('nothing that could control a terminal is printed', () => {
  assert.equal(
    printable('a\u001b]0;b\u0007\u202e\u009bc\r\nd é 😀'),
    'a\\u{1b}]0;b\\u{7}\\u{202e}\\u{9b}c\\u{d}\\u{a}d é 😀',
  )
})
