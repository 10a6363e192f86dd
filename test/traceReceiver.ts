/** A collector of a test's own: takes spans by OTLP over HTTP, in JSON, and keeps them. */
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { until } from './harness.ts'

export interface ReceivedSpan {
  service: string
  traceId: string
  spanId: string
  /** Undefined for the first of a trace. */
  parentSpanId?: string
  name: string
  kind: 'server' | 'client' | 'producer' | 'consumer' | 'internal'
  attributes: Record<string, string | number>
  /** Span ids. */
  links: string[]
  isError: boolean
}

/** As far as it is read. Numbers of 64 bits are texts. */
interface Attribute {
  key: string
  value: { stringValue?: string; intValue?: number | string }
}
interface Export {
  resourceSpans: {
    resource: { attributes: Attribute[] }
    scopeSpans: {
      spans: (Pick<ReceivedSpan, 'traceId' | 'spanId' | 'parentSpanId' | 'name'> & {
        kind: number
        attributes: Attribute[]
        links?: { spanId: string }[]
        status: { code?: number }
      })[]
    }[]
  }[]
}

const KINDS = ['internal', 'internal', 'server', 'client', 'producer', 'consumer'] as const

export interface TraceReceiver {
  endpoint: string
  spans: ReceivedSpan[]
  /** What the requests brought, as it came. */
  bodies: string[]
  headers: IncomingHttpHeaders[]
  /** What it answers; 200 at first. */
  status: number
  /** Waits until a span has come. */
  span(what: string, isIt: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>
}

export async function startReceiver(t: TestContext): Promise<TraceReceiver> {
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      receiver.headers.push(request.headers)
      if (request.url === '/v1/traces' && receiver.status === 200) {
        receiver.bodies.push(body)
        receiver.spans.push(...readSpans(JSON.parse(body)))
      }
      response.writeHead(receiver.status, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const receiver: TraceReceiver = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: [],
    bodies: [],
    headers: [],
    status: 200,
    async span(what, isIt) {
      await until(`a span has come: ${what}`, () => receiver.spans.some(isIt))
      return receiver.spans.find(isIt)!
    },
  }
  return receiver
}

function readSpans({ resourceSpans }: Export): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = String(readAttributes(resource.attributes)['service.name'])
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(({ traceId, spanId, parentSpanId, name, kind, attributes, links = [], status }) => ({
        ...{ service, traceId, spanId, name },
        ...(parentSpanId && { parentSpanId }),
        kind: KINDS[kind]!,
        attributes: readAttributes(attributes),
        links: links.map((link) => link.spanId),
        isError: status.code === 2,
      })),
    )
  })
}

function readAttributes(attributes: Attribute[]): Record<string, string | number> {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue } }) => [key, stringValue ?? Number(intValue)]),
  )
}
