/** What the services of the model have in common: how they work a topic off, stumble, and settle dead letters. */
import { DEAD_LETTER_HEADER, DROPPED_HEADER, REDRIVES_HEADER } from '../lib/record.ts'
import type { GroupName } from '../lib/topics.ts'
import type { Model, ModelOrder } from './auditModel.ts'
import { type ModelRecord, NO_ORDER, positionOf, sourceOf } from './auditModelRecords.ts'

/** Groups that cannot work on some orders at first. */
export const STUMBLING = ['validator', 'inventory', 'payment', 'fraud', 'pricing', 'fulfilment'] as const

interface Outgoing {
  topic: string
  key: string | null
  value: unknown
  headers: Record<string, string>
}

/**
 * Works a topic off, with what is redriven: effects, then records one by one, then the commit. Anything can be seen
 * in between.
 */
export function* work(
  model: Model,
  group: GroupName,
  input: string,
  partition: number,
  handle: (records: ModelRecord[]) => Generator<void, Outgoing[]>,
): Generator<void> {
  const positions = [0, 0]
  const logs = [
    model.logs.get(input)![partition]!,
    model.logs.get(model.topics.retries[group].name)![partition]!,
  ]
  for (;;) {
    yield
    const taken = logs.map((log, index) => {
      const batch = log.slice(positions[index], positions[index]! + 1 + model.below(4))
      const open = batch.findIndex(({ committedAt }) => committedAt > model.now)
      return open < 0 ? batch : batch.slice(0, open)
    })
    const records = taken
      .flat()
      .filter(({ headers, topic }) => topic === input || isRedriveOf(headers, input))
    if (taken.flat().length === 0) continue
    const written: ModelRecord[] = []
    for (const { topic, key, value, headers } of yield* handle(records)) {
      written.push(model.write(topic, partition, key, value, headers, Number.POSITIVE_INFINITY))
      yield
    }
    model.now++
    for (const record of written) record.committedAt = model.now
    taken.forEach((batch, index) => {
      positions[index]! += batch.length
    })
  }
}

/** Answers each validated order that the group does not stumble over, and dead-letters the others. */
export function judge(
  model: Model,
  group: (typeof STUMBLING)[number],
  partition: number,
  answer: (records: ModelRecord[]) => Generator<void, Outgoing[]>,
): Generator<void> {
  return work(model, group, model.topics.ordersValidated.name, partition, function* (records) {
    const usable = records.filter((record) => !stumbles(record, model.orderOf(record), group))
    const letters = records.filter((record) => !usable.includes(record))
    return [...(yield* answer(usable)), ...letters.map((record) => deadLetter(model, group, record))]
  })
}

/** Settles dead letters as a person would: most are redriven, some twice, some dropped; what is no order may be left. */
export function* redrive(model: Model, group: GroupName, partition: number): Generator<void> {
  const letters = model.logs.get(model.topics.deadLetters[group].name)![partition]!
  const { name } = model.topics.retries[group]
  for (let next = 0; ; ) {
    yield
    const letter = letters[next]
    if (!letter || letter.committedAt > model.now) continue
    next++
    const way = model.random()
    if (way < 0.2 && letter.value === NO_ORDER) continue
    const { key, value } = letter
    const headers = {
      ...letter.headers,
      [REDRIVES_HEADER]: String(Number(letter.headers[REDRIVES_HEADER] ?? 0) + 1),
      ...(way > 0.2 && way < 0.4 && { [DROPPED_HEADER]: 'of no use' }),
      [DEAD_LETTER_HEADER]: positionOf(letter),
    }
    model.write(name, partition, key, value, headers)
    // A second time the same: it is to have no effect, and the model's services take the first alone.
    if (way > 0.8) model.write(name, partition, key, value, { ...headers, repeated: 'yes' })
  }
}

export function deadLetter(model: Model, group: GroupName, record: ModelRecord): Outgoing {
  const { key, value, headers } = record
  const { name } = model.topics.deadLetters[group]
  return { topic: name, key, value, headers: { ...headers, source: sourceOf(record) } }
}

/** The stored outcomes of these records, where it was they that caused them. */
export function published(
  model: Model,
  table: string,
  operation: string,
  records: readonly ModelRecord[],
  topic: string,
): Outgoing[] {
  return records.flatMap((record) => {
    const row = model.stored(table, operation, record.key!)
    if (row?.source !== sourceOf(record)) return []
    return [{ topic, key: row.orderId, value: row.event, headers: { source: row.source } }]
  })
}

function isRedriveOf(
  { source, [DROPPED_HEADER]: dropped, repeated }: Record<string, string>,
  input: string,
): boolean {
  return dropped === undefined && repeated === undefined && source?.startsWith(`${input}/`) === true
}

/** The first time, and for some of them the second time too. */
export function stumbles({ headers }: ModelRecord, { id, stumbles }: ModelOrder, group: GroupName): boolean {
  const redrives = Number(headers[REDRIVES_HEADER] ?? 0)
  return stumbles === group && redrives < (id.endsWith('3') ? 2 : 1)
}
