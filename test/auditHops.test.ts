// What the auditor checks of the Command Center, on messages that went wrong in each way that there is.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { AuditBook, auditedTopics } from '../lib/auditBook.ts'
import { judge } from '../lib/auditChecks.ts'
import { AuditIntake } from '../lib/auditIntake.ts'
import { AuditRows } from '../lib/auditRows.ts'
import { seal } from '../lib/crypto.ts'
import type { Hop } from '../lib/events.ts'
import { KeyRing } from '../lib/keyRing.ts'
import { defineTopics } from '../lib/topics.ts'

const keys = KeyRing.fromKey(randomBytes(32).toString('base64'))
const topics = defineTopics('', { isRouted: true, sealedTopics: [], keys: () => keys })
const { inbox, answers, hops, deadLetters } = topics
const AT = '2026-11-21T07:36:03.000Z'
const MESSAGES = 3

const WHOLE = 'each message has its line in the metadata, with what became of it'
const STORED = 'the metadata log holds each line once'
const FORWARDED = 'every message has its forwarding'
const ONCE = 'no message has a second forwarding'

interface Story {
  /** The messages of the inbox, 0 to 2, in the order in which they were forwarded; one may come twice. */
  forwarded: number[]
  refused?: number[]
  /** What the metadata say. */
  said: (Pick<Hop, 'offset'> & Partial<Hop>)[]
  rows?: { forwarded: number; refused: number }
}

const messageOf = (n: number) => {
  const label = { requestId: `ord-${n}`, workerName: 'requester', sender: 'test', eventId: `ord-${n}/Test` }
  return Buffer.from(seal(keys, label, JSON.stringify({ orderId: `ord-${n}` })))
}

/** @returns the checks that fail */
function auditOf({ forwarded, refused = [], said, rows }: Story): string[] {
  const bounds = new Map(auditedTopics(topics).map((name) => [name, new Map([[0, { low: 0, high: 9 }]])]))
  const book = new AuditBook(topics, bounds)
  const intake = new AuditIntake(book)
  const offsets = new Map<string, number>()
  const take = ({ name }: { name: string }, key: string, value: Buffer, headers: Record<string, string>) => {
    const offset = offsets.get(name) ?? 0
    offsets.set(name, offset + 1)
    intake.take(name, 0, [{ offset, timestampMs: 0, key: Buffer.from(key), value, headers }])
  }
  for (let n = 0; n < MESSAGES; n++) take(inbox, `ord-${n}`, messageOf(n), {})
  for (const n of forwarded) take(answers, `ord-${n}`, messageOf(n), { hop: `${inbox.name}/0/${n}` })
  for (const n of refused) {
    const headers = { source: `${inbox.name}/0/${n}`, reason: `the route for worker 'requester' is disabled` }
    take(deadLetters['command-center'], `ord-${n}`, messageOf(n), headers)
  }
  const record = {
    type: 'HopsRecorded' as const,
    eventId: 'one',
    occurredAt: AT,
    sourceTopic: inbox.name,
    hops: said.map(({ offset, ...hop }) => ({
      ...{ offset, requestId: `ord-${offset}`, workerName: 'requester', sender: 'test' },
      ...{ routeId: 1, targetTopic: answers.name, processingTimeMs: 1 },
      ...hop,
    })),
  }
  take(hops, 'one', Buffer.from(hops.encode(record)), {})
  const dedupe = { maxOrders: 10, maxAgeMs: 1_000 }
  const options = { isDrained: true, dedupe, ...(rows && { hopRows: rows }) }
  const { checks } = judge(book, new AuditRows(book), options)
  return checks.filter(({ ok }) => !ok).map(({ name }) => name)
}

const all = [{ offset: 0 }, { offset: 1 }, { offset: 2 }]
const rows = { forwarded: 3, refused: 0 }

test('messages that were forwarded once, with their lines in the metadata, are as they must be', () => {
  assert.deepEqual(auditOf({ forwarded: [0, 1, 2], said: all, rows }), [])
})

const wrongs: [what: string, story: Story, checks: string[]][] = [
  ['is lost', { forwarded: [0, 2], said: all }, [FORWARDED, WHOLE]],
  ['is lost without a word', { forwarded: [0, 2], said: [{ offset: 0 }, { offset: 2 }] }, [FORWARDED]],
  ['is forwarded twice', { forwarded: [0, 1, 1, 2], said: [...all, { offset: 1 }] }, [ONCE]],
  ['is forwarded twice and said once', { forwarded: [0, 1, 1, 2], said: all }, [ONCE, WHOLE]],
  ['has no line', { forwarded: [0, 1, 2], said: [{ offset: 0 }, { offset: 1 }] }, [WHOLE]],
  [
    'is said to be refused',
    { forwarded: [0, 1, 2], said: [...all.slice(1), { offset: 0, error: 'no' }] },
    [WHOLE],
  ],
  ['has no row', { forwarded: [0, 1, 2], said: all, rows: { forwarded: 2, refused: 0 } }, [STORED]],
  ['has a row too many', { forwarded: [0, 1, 2], said: all, rows: { forwarded: 3, refused: 1 } }, [STORED]],
  [
    'is held by a disabled route',
    { forwarded: [0, 1], refused: [2], said: [...all.slice(0, 2), { offset: 2, error: 'disabled' }] },
    ['no good record is left in the dead letters'],
  ],
]
for (const [what, story, checks] of wrongs) {
  test(`a message that ${what} is found`, () => assert.deepEqual(auditOf(story).sort(), [...checks].sort()))
}

test('what went to a topic that is not ours is believed to the metadata', () => {
  const elsewhere = all.map((hop) => ({ ...hop, targetTopic: 'archive' }))
  assert.deepEqual(auditOf({ forwarded: [], said: elsewhere }), [])
})
