import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Kafka as KafkaClient, Producer, Transaction } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import { until } from './harness.ts'
import { ids, type TestGroup, testGroup } from './processorHarness.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PATCHES = join(ROOT, 'patches')

type KafkaConstructor = new (config: { brokers: string[]; logLevel: number }) => KafkaClient

/** Two installations: the one of this project, and a copy of it from which the patches are taken off again. */
const installations: Record<'patched' | 'unpatched', string> = {
  patched: join(ROOT, 'node_modules', 'kafkajs'),
  unpatched: '',
}

const directory = mkdtempSync(join(tmpdir(), 'kafkajs-unpatched-'))
after(() => rmSync(directory, { recursive: true, force: true }))

before(() => {
  const copy = join(directory, 'node_modules', 'kafkajs')
  cpSync(installations.patched, copy, { recursive: true })
  for (const file of readdirSync(PATCHES).filter((name) => name.startsWith('kafkajs+'))) {
    takeOff(readFileSync(join(PATCHES, file), 'utf8'), directory)
  }
  installations.unpatched = copy
})

/** Takes a patch in unified format off the files below a directory. */
function takeOff(patch: string, root: string): void {
  for (const part of patch.split(/^diff --git .*$/m).slice(1)) {
    const file = join(root, /^\+\+\+ b\/(.+)$/m.exec(part)![1]!)
    let text = readFileSync(file, 'utf8')
    for (const hunk of part.split(/^@@ .*$/m).slice(1)) {
      const lines = hunk.split('\n').slice(1, -1)
      const side = (sign: string) =>
        lines
          .filter((line) => line.startsWith(' ') || line.startsWith(sign))
          .map((line) => line.slice(1))
          .join('\n')
      assert.ok(text.includes(side('+')), `${file} is not patched`)
      text = text.replace(side('+'), () => side('-'))
    }
    writeFileSync(file, text)
  }
}

/** Several transactional producers that write to partition 0 of the output, and what each has under way. */
async function openWriters(t: TestContext, group: TestGroup, names: string[]) {
  const writers = new Map<string, { producer: Producer; transaction: Transaction | undefined }>()
  for (const name of names) {
    const producer = createKafka(group.config, name, group.log).producer({
      transactionalId: `${group.name}-${name}`,
      idempotent: true,
      maxInFlightRequests: 1,
    })
    await producer.connect()
    t.after(() => producer.disconnect())
    writers.set(name, { producer, transaction: undefined })
  }
  return {
    async write(name: string, key: string | Buffer): Promise<void> {
      const writer = writers.get(name)!
      writer.transaction ??= await writer.producer.transaction()
      await writer.transaction.send({
        topic: group.output.name,
        messages: [{ key, value: '{}', partition: 0 }],
      })
    },
    async end(name: string, how: 'commit' | 'abort'): Promise<void> {
      const writer = writers.get(name)!
      await writer.transaction![how]()
      writer.transaction = undefined
    },
  }
}

/** The keys that a read-committed consumer of one of the installations sees, up to the one that is the last. */
async function consume(
  t: TestContext,
  installation: keyof typeof installations,
  { config, output }: TestGroup,
): Promise<string[]> {
  const { Kafka } = createRequire(import.meta.url)(installations[installation]) as { Kafka: KafkaConstructor }
  const kafka = new Kafka({ brokers: config.kafka.brokers, logLevel: 0 })
  const consumer = kafka.consumer({ groupId: `${config.topicPrefix}${installation}`, maxWaitTimeInMs: 100 })
  await consumer.connect()
  t.after(() => consumer.disconnect())
  await consumer.subscribe({ topics: [output.name], fromBeginning: true })
  const seen: string[] = []
  await consumer.run({ eachMessage: async ({ message }) => void seen.push(String(message.key)) })
  await until('the last record is seen', () => seen.at(-1) === 'last')
  return seen.slice(0, -1)
}

test('aborted records of interleaved producers stay unseen, which kafkajs as published does not see to', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { write, end } = await openWriters(t, group, ['a', 'b', 'last'])
  // The broker lists aborted transactions as they end: b, which began after a, stands first.
  for (const round of ids('round', 3)) {
    await write('a', `aborted a ${round}`)
    await write('b', `aborted b ${round}`)
    await end('b', 'abort')
    await write('b', `committed b ${round}`)
    await end('a', 'abort')
    await end('b', 'commit')
  }
  await write('last', 'last')
  await end('last', 'commit')

  const committed = ids('round', 3).map((round) => `committed b ${round}`)
  assert.deepEqual(await consume(t, 'patched', group), committed)
  const withoutPatch = await consume(t, 'unpatched', group)
  assert.ok(
    withoutPatch.some((key) => key.startsWith('aborted')),
    `only ${withoutPatch.join(', ')}: kafkajs has been mended and the patch can go`,
  )
})

test('a key of four zero bytes does not end an aborted transaction, as it does in kafkajs as published', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { write, end } = await openWriters(t, group, ['a', 'last'])
  await write('a', Buffer.alloc(4))
  await write('a', 'aborted')
  await end('a', 'abort')
  await write('last', 'last')
  await end('last', 'commit')

  assert.deepEqual(await consume(t, 'patched', group), [])
  assert.ok((await consume(t, 'unpatched', group)).includes('aborted'))
})

/** How often a producer of one of the installations asks for coordinators during some transactions in a row. */
async function countLookUps(t: TestContext, installation: keyof typeof installations, group: TestGroup) {
  const { Kafka } = createRequire(import.meta.url)(installations[installation]) as { Kafka: KafkaConstructor }
  const producer = new Kafka({ brokers: group.config.kafka.brokers, logLevel: 0 }).producer({
    transactionalId: `${group.name}-${installation}`,
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  t.after(() => producer.disconnect())
  let lookUps = 0
  producer.on('producer.network.request', ({ payload }) => {
    if (payload.apiName === 'GroupCoordinator') lookUps++
  })
  const startedMs = Date.now()
  for (const key of ids('transaction', 20)) {
    const transaction = await producer.transaction()
    await transaction.send({ topic: group.output.name, messages: [{ key, value: '{}', partition: 0 }] })
    await transaction.sendOffsets({
      consumerGroupId: group.name,
      topics: [{ topic: group.first.name, partitions: [{ partition: 0, offset: '0' }] }],
    })
    await transaction.commit()
  }
  return { lookUps, seconds: (Date.now() - startedMs) / 1_000 }
}

test('coordinators are asked for about once a second, and not four times in each transaction', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { lookUps, seconds } = await countLookUps(t, 'patched', group)
  assert.ok(lookUps <= 2 * (seconds + 1), `${lookUps} look-ups in ${seconds} s`)
  assert.ok((await countLookUps(t, 'unpatched', group)).lookUps >= 80)
})

test('a processor refuses an installation without the patches, and says what to do', async () => {
  mkdirSync(join(directory, 'lib'))
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}')
  for (const file of ['kafkaPatchCheck.ts', 'errors.ts']) {
    cpSync(join(ROOT, 'lib', file), join(directory, 'lib', file))
  }
  const check = pathToFileURL(join(directory, 'lib', 'kafkaPatchCheck.ts')).href
  const { requirePatchedKafkajs } = (await import(check)) as typeof import('../lib/kafkaPatchCheck.ts')
  assert.throws(requirePatchedKafkajs, { code: 'CONFIGURATION', message: /lacks the patches.*npm install/ })
})
