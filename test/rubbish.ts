/** Records that nobody expects, for {@link rubbish}: random bytes, events of which something was changed, odd keys and headers. */
import fc from 'fast-check'
import type { IHeaders, Message } from 'kafkajs'
import type { OrderPlaced, OrderValidated } from '../lib/events.ts'

const SEED = 20_260_117
const AT = '2026-11-21T10:00:00.000Z'

export function order(orderId: string): OrderPlaced {
  return {
    type: 'OrderPlaced',
    eventId: `${orderId}/OrderPlaced`,
    occurredAt: AT,
    orderId,
    customerId: 'c-1',
    placedAt: AT,
    currency: 'EUR',
    items: [{ sku: 'sku-1', name: 'One', quantity: 2, unitPrice: 250 }],
    total: 500,
  }
}

export function validated(orderId: string): OrderValidated {
  const customer = { id: 'c-1', name: 'One', email: 'one@example.com', tier: 'gold', country: 'DE' } as const
  return {
    ...order(orderId),
    type: 'OrderValidated',
    eventId: `${orderId}/OrderValidated`,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'fuzz',
    validatedAt: AT,
    customer,
  }
}

export function product(sku: string) {
  return {
    type: 'ProductCreated',
    eventId: sku,
    occurredAt: AT,
    sku,
    name: 'One',
    unitPrice: 250,
    currency: 'EUR',
  }
}

const randomBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))

/** Values that are JSON and not what was expected. */
const oddValue = fc.oneof(
  fc.constantFrom<unknown>(null, -1, 0, 1.5, 1e300, -1e15, 1e15, '', '\u0000', '\ud800', [], {}, [[]], true),
  fc.constantFrom(
    'x'.repeat(600),
    'sku-1',
    'USD',
    'XXX',
    '2026-02-30T10:00:00.000Z',
    '__proto__',
    "'; DROP TABLE",
  ),
  fc.jsonValue({ maxDepth: 1 }),
)

/** Makes of an event the bytes of one in which something was changed: a field, a byte, its end. */
type Mutation = (event: object) => Buffer

const toBytes = (value: unknown) => Buffer.from(JSON.stringify(value))
/** Somewhere in a whole, whatever its length turns out to be. */
const somewhere = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

function mutation(paths: Path[]): fc.Arbitrary<Mutation> {
  const replaced = fc.tuple(fc.constantFrom(...paths), oddValue)
  const overwritten = fc.tuple(somewhere, fc.nat(255))
  return fc.oneof(
    {
      weight: 4,
      arbitrary: replaced.map(
        ([path, value]): Mutation =>
          (event) =>
            toBytes(replace(event, path, value)),
      ),
    },
    {
      weight: 2,
      arbitrary: overwritten.map(
        ([at, byte]): Mutation =>
          (event) => {
            const bytes = toBytes(event)
            bytes[Math.floor(at * bytes.length)] = byte
            return bytes
          },
      ),
    },
    {
      weight: 1,
      arbitrary: somewhere.map(
        (end): Mutation =>
          (event) => {
            const bytes = toBytes(event)
            return bytes.subarray(0, Math.floor(end * bytes.length))
          },
      ),
    },
    { weight: 1, arbitrary: oddValue.map((value) => () => toBytes(value)) },
    {
      weight: 1,
      arbitrary: fc.nat(3_000).map((depth) => () => Buffer.from('['.repeat(depth) + ']'.repeat(depth))),
    },
  )
}

type Path = (string | number)[]

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => {
    return [[...path, name], ...pathsOf(inner, [...path, name])]
  })
}

function replace(event: object, path: Path, value: unknown): object {
  const copy = structuredClone(event) as Record<string, unknown>
  const owner = path.slice(0, -1).reduce((at, name) => at[name] as Record<string, unknown>, copy)
  owner[path.at(-1)!] = value
  return copy
}

const oddHeaders: fc.Arbitrary<IHeaders> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.dictionary(
      fc.oneof(
        fc.constantFrom(
          'source',
          'dead-letter',
          'redrives',
          'attempts',
          'dropped',
          'reason',
          'topic',
          '',
          'é',
          '0',
        ),
        fc.string({ maxLength: 5 }),
      ),
      fc.oneof(
        fc.constantFrom('orders.raw/0/1', 'validator.dlq/0/1', 'a/b/c', '99', '', 'NaN'),
        randomBytes,
        fc.array(randomBytes, { minLength: 1, maxLength: 3 }),
      ),
      { maxKeys: 3 },
    ),
  },
)

/** A key, with what stands in place of the right one if anything does. */
const oddKey = fc.oneof(
  { weight: 6, arbitrary: fc.constant('right' as const) },
  { weight: 1, arbitrary: fc.constantFrom<string | Buffer | null>(null, '', 'another', Buffer.alloc(4)) },
  { weight: 1, arbitrary: randomBytes },
)

/** So many messages for a topic, each made of an event of its own; the same for the same seed. */
export function rubbish(count: number, prefix: string, eventOf: (id: string) => object): Message[] {
  const value: fc.Arbitrary<Mutation | null> = fc.oneof(
    { weight: 4, arbitrary: randomBytes.map((bytes) => () => bytes) },
    { weight: 6, arbitrary: mutation(pathsOf(eventOf(prefix))) },
    { weight: 1, arbitrary: fc.constantFrom(null, () => Buffer.alloc(0)) },
  )
  const recipe = fc.record({ key: oddKey, value, headers: oddHeaders })
  return fc.sample(recipe, { seed: SEED, numRuns: count }).map(({ key, value, headers }, index) => {
    const id = `${prefix}-${index}`
    return {
      key: key === 'right' ? id : key,
      value: value === null ? null : value(eventOf(id)),
      headers: headers as Message['headers'] & {},
    }
  })
}
