/**
 * One trace for each order, over all processes: its context travels in the header `traceparent` (W3C Trace Context) of
 * requests and of records. docs/TRACING.md shows which spans there are.
 *
 * Here stands what everybody may call. What makes spans, and OpenTelemetry with it, is loaded when a collector is set;
 * without one `tracing` is undefined, and a context that comes in is passed on as it came.
 */
import type { IHeaders } from 'kafkajs'
import type { Registry } from 'prom-client'
import type { Config } from '../kafkaConfig.ts'
import { within } from './async.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { headerText, type RawRecord, TRACEPARENT_HEADER } from './record.ts'

/** Something that takes its time, from being made until its end. */
export interface TraceSpan {
  /** The context that whatever it causes is to continue. */
  readonly traceparent: string
  /**
   * To be called once.
   *
   * @param error the kind of error that it ended with, one of few: never a message, which could hold anything
   * @param status of an answer over HTTP
   */
  end(error?: string, status?: number): void
}

export interface ConsumedRecord extends Pick<RawRecord, 'partition' | 'key' | 'headers'> {
  /** Where it was read from, and its offset there. */
  topic: string
  readOffset: number
  group: string
}

export interface TracedRecord {
  topic: string
  headers?: IHeaders | undefined
}

/** From where records are sent: as far as it is known. */
export interface Sending {
  partition?: number
  group?: string
}

export interface TracedRequest {
  kind: 'client' | 'server'
  method: string
  /** The pattern that the path is one of; a path could name anything. */
  route: string | undefined
  /** Of the server, for a client. */
  address?: { host: string; port: number }
}

/** Makes spans. A `parent` is what a traceparent header says; without one a trace begins. */
export interface Tracing {
  /** The work on a record: until what came of it is committed. */
  process(record: ConsumedRecord): TraceSpan
  /** The making of a record. @returns the context for its header */
  create(topic: string, key: Buffer | string | null, parent: string | undefined): string
  /** The sending of a batch, linked to its records; undefined when none of them is to be traced. */
  send(records: readonly TracedRecord[], sending: Sending): TraceSpan | undefined
  request(request: TracedRequest, parent: string | undefined): TraceSpan
  /** Sends what is left. */
  close(): Promise<void>
}

/** How long the end of a process waits for the collector. */
const FLUSH_WITHIN_MS = 2_000

/** Undefined while nothing is traced, which is the one thing that those who are in a hurry have to look at. */
export let tracing: Tracing | undefined

/**
 * Begins to trace this process, if a collector is set.
 *
 * @param service what the process is called
 * @returns ends it, having sent what is left within a short time
 */
export async function startTracing(
  service: string,
  config: Config['tracing'],
  process: { log: Logger; metrics: Registry },
): Promise<() => Promise<void>> {
  if (config.endpoint === undefined) return async () => undefined
  const { createTracing } = await import('./tracingSpans.ts')
  const started = createTracing(service, { ...config, endpoint: config.endpoint }, process)
  tracing = started
  return async () => {
    tracing = undefined
    let left: string | undefined = `the collector takes longer than ${FLUSH_WITHIN_MS} ms`
    const closed = started.close().then(
      () => {
        left = undefined
      },
      (error) => {
        left = describe(error)
      },
    )
    await within(FLUSH_WITHIN_MS, closed)
    if (left !== undefined) process.log.warn(`the last spans of the traces are lost: ${left}`)
  }
}

/** Version 00, trace, span and flags; neither id may be zero. */
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

/** The context that a record or a request came with; undefined where there is none that can be read. */
export function traceparentOf(headers: IHeaders): string | undefined {
  if (headers[TRACEPARENT_HEADER] === undefined) return undefined
  const text = headerText(headers, TRACEPARENT_HEADER) ?? ''
  return TRACEPARENT.test(text) ? text : undefined
}

/** The trace that a context is of: 32 digits, as a collector shows it. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35)
}

/**
 * A record as it is to be written, with the context in its header that whoever reads it continues.
 *
 * @param cause the context that it was made in
 */
export function withTraceparent<
  Sent extends { topic: string; key: Buffer | string | null; headers?: IHeaders },
>(record: Sent, cause: string | undefined): Sent {
  const traceparent = tracing ? tracing.create(record.topic, record.key, cause) : cause
  if (traceparent === undefined) return record
  return { ...record, headers: { ...record.headers, [TRACEPARENT_HEADER]: traceparent } }
}

/** Sends records as `send` does. */
export async function sendTraced(
  records: readonly TracedRecord[],
  sending: Sending,
  send: () => Promise<unknown>,
): Promise<void> {
  const span = tracing?.send(records, sending)
  try {
    await send()
    span?.end()
  } catch (error) {
    span?.end('send-failed')
    throw error
  }
}
