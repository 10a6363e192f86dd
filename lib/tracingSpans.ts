/**
 * Spans by OpenTelemetry. Names, kinds and attributes are those of its semantic conventions for messaging (with Kafka)
 * and HTTP: a record is created (PRODUCER, whose context its header carries), sent with others (CLIENT, with links to
 * them) and processed (CONSUMER).
 *
 * Attributes say topics, positions, order ids and kinds of errors: nothing of what is in a record, and nobody's name.
 */
import { randomUUID } from 'node:crypto'
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BasicTracerProvider,
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-base'
import type { Registry } from 'prom-client'
import type { Config } from '../kafkaConfig.ts'
import type { Logger } from './log.ts'
import { addCounter } from './metrics.ts'
import {
  type ConsumedRecord,
  type Sending,
  type TracedRecord,
  type TracedRequest,
  type TraceSpan,
  type Tracing,
  traceparentOf,
} from './tracing.ts'
import { createExport } from './tracingExport.ts'

type TracingConfig = Config['tracing'] & { endpoint: string }

/** Of a batch; the SDK would drop those above 128. */
const MAX_LINKS = 128
const KEY = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/

export function createTracing(
  service: string,
  config: TracingConfig,
  { log, metrics: registry }: { log: Logger; metrics: Registry },
): Tracing {
  const spanExport = createExport(config, log)
  const help = 'Spans that are lost because the trace collector did not take them'
  addCounter({ registry, name: 'pipeline_trace_spans_dropped_total', help }, () => [[{}, spanExport.dropped]])
  const resource = resourceFromAttributes({
    'service.name': config.serviceName || service,
    'service.namespace': 'order-pipeline',
    'service.instance.id': randomUUID(),
  })
  const provider = new BasicTracerProvider({
    resource: defaultResource().merge(resource),
    sampler: withBatches(createSampler(config)),
    spanProcessors: [spanExport.processor],
  })
  const tracer = provider.getTracer('order-pipeline')
  const followsParent = config.sampler.startsWith('parentbased_')
  /** Whether it is decided already that there are to be no spans: then none is made, and the context goes on as it is. */
  const isLeftOut = (parent: string | undefined): parent is string =>
    followsParent && parent !== undefined && !isSampled(contextOf(parent, true))
  return {
    process(record) {
      const parent = traceparentOf(record.headers)
      return isLeftOut(parent) ? withoutSpan(parent) : process(tracer, record, parent)
    },
    create: (topic, key, parent) => (isLeftOut(parent) ? parent : create(tracer, topic, key, parent)),
    send: (records, sending) => send(tracer, records, sending),
    request: (request, parent) =>
      isLeftOut(parent) ? withoutSpan(parent) : requestSpan(tracer, request, parent),
    close: () => provider.shutdown(),
  }
}

function process(
  tracer: Tracer,
  { topic, partition, readOffset, group, key }: ConsumedRecord,
  traceparent: string | undefined,
): TraceSpan {
  const parent = contextOf(traceparent, true)
  const options = {
    kind: SpanKind.CONSUMER,
    attributes: {
      ...messaging('process', topic),
      'messaging.destination.partition.id': String(partition),
      'messaging.kafka.offset': readOffset,
      'messaging.consumer.group.name': group,
      ...keyAttribute(key),
    },
    // A link to what it was created in is what the conventions ask for; that it is the parent, too, they allow.
    ...(parent && { links: [{ context: parent }] }),
  }
  return toTraceSpan(tracer.startSpan(`process ${topic}`, options, within(parent)))
}

function create(
  tracer: Tracer,
  topic: string,
  key: Buffer | string | null,
  parent: string | undefined,
): string {
  const attributes = { ...messaging('create', topic), ...keyAttribute(key) }
  const options = { kind: SpanKind.PRODUCER, attributes }
  const span = tracer.startSpan(`create ${topic}`, options, within(contextOf(parent, false)))
  span.end()
  return toTraceparent(span.spanContext())
}

function send(
  tracer: Tracer,
  records: readonly TracedRecord[],
  { partition, group }: Sending,
): TraceSpan | undefined {
  const contexts: SpanContext[] = []
  const topics = new Set<string>()
  for (const { topic, headers } of records) {
    topics.add(topic)
    const context = contexts.length < MAX_LINKS && headers && contextOf(traceparentOf(headers), false)
    if (context && isSampled(context)) contexts.push(context)
  }
  if (contexts.length === 0) return undefined
  const [topic] = topics.size === 1 ? topics : []
  const options = {
    // Not one of its records alone causes it.
    root: true,
    kind: SpanKind.CLIENT,
    attributes: {
      ...messaging('send', topic),
      'messaging.batch.message_count': records.length,
      ...(partition !== undefined && { 'messaging.destination.partition.id': String(partition) }),
      ...(group !== undefined && { 'messaging.consumer.group.name': group }),
    },
    links: contexts.map((context) => ({ context })),
  }
  return toTraceSpan(tracer.startSpan(topic === undefined ? 'send' : `send ${topic}`, options))
}

function requestSpan(
  tracer: Tracer,
  { kind, method, route, address }: TracedRequest,
  parent: string | undefined,
): TraceSpan {
  const isServer = kind === 'server'
  const attributes: Attributes = { 'http.request.method': method }
  if (route !== undefined) attributes[isServer ? 'http.route' : 'url.template'] = route
  if (address) {
    attributes['server.address'] = address.host
    attributes['server.port'] = address.port
  }
  const options = { kind: isServer ? SpanKind.SERVER : SpanKind.CLIENT, attributes }
  const name = route === undefined ? method : `${method} ${route}`
  // What a client asked wrongly is an error of the client.
  return toTraceSpan(
    tracer.startSpan(name, options, within(contextOf(parent, isServer))),
    isServer ? 500 : 400,
  )
}

function messaging(operation: 'create' | 'send' | 'process', topic: string | undefined): Attributes {
  return {
    'messaging.system': 'kafka',
    'messaging.operation.name': operation,
    'messaging.operation.type': operation,
    ...(topic !== undefined && { 'messaging.destination.name': topic }),
  }
}

/** The order id, mostly. What has not the form of an id could be anything. */
function keyAttribute(key: Buffer | string | null): Attributes {
  const text = key === null || key.length > 64 ? '' : key.toString()
  return KEY.test(text) ? { 'messaging.kafka.message.key': text } : {}
}

function withoutSpan(traceparent: string): TraceSpan {
  return { traceparent, end: () => undefined }
}

function toTraceSpan(span: Span, firstErrorStatus = Number.POSITIVE_INFINITY): TraceSpan {
  return {
    traceparent: toTraceparent(span.spanContext()),
    end(error, status) {
      if (status !== undefined) span.setAttribute('http.response.status_code', status)
      const kind = error ?? (status !== undefined && status >= firstErrorStatus ? String(status) : undefined)
      if (kind !== undefined) span.setAttribute('error.type', kind).setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    },
  }
}

function toTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

/** @param traceparent one that can be read, see {@link traceparentOf} */
function contextOf(traceparent: string, isRemote: boolean): SpanContext
function contextOf(traceparent: string | undefined, isRemote: boolean): SpanContext | undefined
function contextOf(traceparent: string | undefined, isRemote: boolean): SpanContext | undefined {
  if (traceparent === undefined) return undefined
  const [, traceId = '', spanId = '', flags = ''] = traceparent.split('-')
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote }
}

function within(parent: SpanContext | undefined): Context {
  return parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT
}

function isSampled({ traceFlags }: SpanContext): boolean {
  return (traceFlags & TraceFlags.SAMPLED) !== 0
}

function createSampler({ sampler, samplerRatio }: TracingConfig): Sampler {
  const kind = sampler.replace('parentbased_', '')
  const root =
    kind === 'traceidratio'
      ? new TraceIdRatioBasedSampler(samplerRatio)
      : kind === 'always_on'
        ? new AlwaysOnSampler()
        : new AlwaysOffSampler()
  return sampler === kind ? root : new ParentBasedSampler({ root })
}

/** A batch, which is in no order's trace, is to be seen when one of its records is: those alone it is linked to. */
function withBatches(sampler: Sampler): Sampler {
  return {
    shouldSample(context, traceId, name, kind, attributes, links) {
      if (kind === SpanKind.CLIENT && links.length > 0) {
        return { decision: SamplingDecision.RECORD_AND_SAMPLED }
      }
      return sampler.shouldSample(context, traceId, name, kind, attributes, links)
    },
    toString: () => sampler.toString(),
  }
}
