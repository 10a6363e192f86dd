/** Whether two peers wrote the same: every record of their outputs, in its place. */
import { createHash } from 'node:crypto'
import { headerText, parsePosition, SOURCE_HEADER } from '../lib/record.ts'
import { readTopics, type TopicRecord } from '../lib/topicReader.ts'
import { outputTopics, type StageCluster } from './stageCluster.ts'

/**
 * One number for each record, by output and partition, in the order in which they lie there; dead letters by the position
 * that they came from, since one without a key may lie anywhere.
 */
export interface OutputPrint {
  records: number
  /** By `topic/partition`. */
  ordered: Map<string, number[]>
  deadLetters: Map<string, number>
  /**
   * By partition of the backlog: for each offset below what the group committed, how many records of any output name it as
   * their source (255 and more are the same).
   */
  timesWritten: Map<number, Uint8ClampedArray>
}

/** What the peer of this group, which has ended, has written; and how far it committed. */
export async function readOutput(cluster: StageCluster, group: string): Promise<OutputPrint> {
  const { kafka, admin, config, log } = cluster
  const { validated, rejected, deadLetters } = outputTopics(config)
  const [backlog] = await admin.fetchOffsets({ groupId: group, topics: [config.topics.ordersRaw.name] })
  const print = emptyPrint(
    backlog!.partitions.map(({ partition, offset }) => [partition, Math.max(0, Number(offset))]),
  )
  await readTopics({
    kafka,
    topics: [validated, rejected, deadLetters],
    from: 'beginning',
    until: 'end',
    log,
    onRecords(topic, partition, records) {
      if (topic === deadLetters) addLetters(print, records)
      else addEvents(print, `${topic}/${partition}`, records)
    },
  })
  return print
}

/** @param committed so many records of each partition of the backlog */
export function emptyPrint(
  committed: readonly (readonly [partition: number, offset: number])[],
): OutputPrint {
  const timesWritten = new Map(
    committed.map(([partition, offset]) => [partition, new Uint8ClampedArray(offset)] as const),
  )
  return { records: 0, ordered: new Map(), deadLetters: new Map(), timesWritten }
}

/** @param place `topic/partition` */
export function addEvents(print: OutputPrint, place: string, records: readonly TopicRecord[]): void {
  const hashes = print.ordered.get(place) ?? []
  print.ordered.set(place, hashes)
  for (const record of records) {
    count(print, record)
    hashes.push(hashOf(eventText(record)))
  }
}

export function addLetters(print: OutputPrint, records: readonly TopicRecord[]): void {
  for (const record of records) {
    count(print, record)
    print.deadLetters.set(String(headerText(record.headers, SOURCE_HEADER)), hashOf(letterText(record)))
  }
}

/** One without a source is missing at its place, and differs from what is expected. */
function count(print: OutputPrint, { headers }: TopicRecord): void {
  print.records++
  const source = parsePosition(headerText(headers, SOURCE_HEADER) ?? '')
  if (!source) return
  const times = print.timesWritten.get(source.partition)
  if (times && source.offset < times.length) times[source.offset]!++
}

/** What differs between one run and the next: when it was said, and by which process. */
const CHANGING = /"(occurredAt|validatedAt|processedBy)":"[^"]*"/g

function eventText({ key, value, headers }: TopicRecord): string {
  const event = value!.toString('latin1').replace(CHANGING, '"$1"')
  return `${key!.toString('latin1')}\n${headerText(headers, SOURCE_HEADER)}\n${event}`
}

/** A reason is compared up to where a parser speaks in words of its own. */
function letterText({ key, value, headers }: TopicRecord): string {
  const names = ['source', 'topic', 'partition', 'offset', 'timestamp', 'attempts']
  const reason = headerText(headers, 'reason')?.split(':')[0]?.replace(/ \(.*/, '')
  const said = names.map((name) => headerText(headers, name)).join('\n')
  return `${key?.toString('latin1')}\n${value!.toString('latin1')}\n${said}\n${reason}`
}

/** 48 bits: of a million records, two that differ look alike once in 300 million runs. */
function hashOf(text: string): number {
  return createHash('sha1').update(text, 'latin1').digest().readUIntBE(0, 6)
}

/**
 * What is different, in one line for each place; empty when nothing is. Whatever the second has committed has to be written
 * once, and it has to have committed all that it was given.
 *
 * @param orders that the second was given
 * @param isPart these are a part of the backlog: what it wrote is to be the beginning of the first
 */
export function findDifferences(
  one: OutputPrint,
  other: OutputPrint,
  { orders, isPart }: { orders: number; isPart: boolean },
): string[] {
  const differences: string[] = []
  if (!isPart && other.records !== orders) {
    differences.push(`${other.records} records were written for ${orders} orders`)
  }
  const committed = [...other.timesWritten.values()].reduce((sum, { length }) => sum + length, 0)
  if (committed < orders) differences.push(`${committed} of ${orders} orders are committed`)
  for (const [partition, times] of other.timesWritten) {
    const offset = times.findIndex((written) => written !== 1)
    if (offset < 0) continue
    differences.push(`order ${partition}/${offset} is committed, and was written ${times[offset]} times`)
  }
  for (const place of new Set([...one.ordered.keys(), ...other.ordered.keys()])) {
    const [a = [], b = []] = [one.ordered.get(place), other.ordered.get(place)]
    const length = isPart ? b.length : Math.max(a.length, b.length)
    for (let index = 0; index < length; index++) {
      if (a[index] === b[index]) continue
      differences.push(`${place}: record ${index} of ${a.length} and ${b.length} differs`)
      break
    }
  }
  const sources = isPart ? other.deadLetters : new Map([...one.deadLetters, ...other.deadLetters])
  for (const source of sources.keys()) {
    if (one.deadLetters.get(source) === other.deadLetters.get(source)) continue
    differences.push(`the dead letter of ${source} differs`)
  }
  return differences
}
