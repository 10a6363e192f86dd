/** Whether two peers wrote the same: every record of their outputs, in its place. */
import { createHash } from 'node:crypto'
import { headerText, SOURCE_HEADER } from '../lib/record.ts'
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
}

/** What the peer before has written, as far as it has committed. */
export async function readOutput({ kafka, config, log }: StageCluster): Promise<OutputPrint> {
  const { validated, rejected, deadLetters } = outputTopics(config)
  const print: OutputPrint = { records: 0, ordered: new Map(), deadLetters: new Map() }
  await readTopics({
    kafka,
    topics: [validated, rejected, deadLetters],
    from: 'beginning',
    until: 'end',
    log,
    onRecords(topic, partition, records) {
      print.records += records.length
      if (topic === deadLetters) {
        for (const record of records) {
          print.deadLetters.set(headerText(record.headers, SOURCE_HEADER)!, hashOf(letterText(record)))
        }
        return
      }
      const place = `${topic}/${partition}`
      const hashes = print.ordered.get(place) ?? []
      print.ordered.set(place, hashes)
      for (const record of records) hashes.push(hashOf(eventText(record)))
    },
  })
  return print
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
 * What is different, in one line for each place; empty when nothing is.
 *
 * @param isPart the second has worked on a part of the backlog only: what it wrote is to be the beginning of the first
 */
export function findDifferences(one: OutputPrint, other: OutputPrint, isPart: boolean): string[] {
  const differences: string[] = []
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
