import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { BatchSpanProcessor, type SpanExporter, type SpanProcessor } from '@opentelemetry/sdk-trace-base'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { RepeatedWarning } from './repeatedWarning.ts'

/** Spans that wait for the collector; some 10 MB. */
const MAX_QUEUED = 8_192
const MAX_BATCH = 512
const SEND_EVERY_MS = 1_000
const SENT_WITHIN_MS = 5_000

interface ExportOptions {
  /** Without the path: `v1/traces` comes behind it. */
  endpoint: string
  /** Secrets, such as a token. */
  headers: Record<string, string>
}

/**
 * Sends spans to the collector over HTTP, as JSON. One that is away costs spans, which are counted, and nothing else: what
 * waits for it is bounded, and nobody waits for that.
 */
export function createExport(
  { endpoint, headers }: ExportOptions,
  log: Logger,
): { processor: SpanProcessor; readonly dropped: number } {
  const { host } = new URL(endpoint)
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
  const exporter = new OTLPTraceExporter({ url, headers, timeoutMillis: SENT_WITHIN_MS })
  const outage = new RepeatedWarning(log)
  let waiting = 0
  let dropped = 0
  let isOut = false
  const watched: SpanExporter = {
    export(spans, done) {
      waiting -= spans.length
      exporter.export(spans, (result) => {
        if (result.error || result.code !== 0) {
          dropped += spans.length
          isOut = true
          const why = result.error ? describe(result.error) : 'it gives no reason'
          outage.say(`the trace collector at ${host} does not take spans, which are dropped: ${why}`)
        } else if (isOut) {
          isOut = false
          outage.over()
          log.info(`the trace collector at ${host} takes spans again, ${dropped} were dropped so far`)
        }
        done(result)
      })
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush(),
  }
  const batches = new BatchSpanProcessor(watched, {
    maxQueueSize: MAX_QUEUED,
    maxExportBatchSize: MAX_BATCH,
    scheduledDelayMillis: SEND_EVERY_MS,
    exportTimeoutMillis: 2 * SENT_WITHIN_MS,
  })
  const processor: SpanProcessor = {
    onStart: (span, context) => batches.onStart(span, context),
    onEnd(span) {
      // What is not sampled the next one leaves out; it must not count as waiting.
      if ((span.spanContext().traceFlags & 1) === 0) return
      if (waiting >= MAX_QUEUED) {
        dropped++
        return
      }
      waiting++
      batches.onEnd(span)
    },
    forceFlush: () => batches.forceFlush(),
    shutdown: () => batches.shutdown(),
  }
  return {
    processor,
    get dropped() {
      return dropped
    },
  }
}
