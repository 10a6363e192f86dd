/**
 * Products and stock over HTTP. A change counts once it is in the database, and is told on the topic `products`
 * (lib/products.ts).
 */
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { withoutNul } from './apiFields.ts'
import { ProductCreated } from './events.ts'
import { Problem, problems } from './problem.ts'
import {
  createProduct,
  findProduct,
  listProducts,
  listStock,
  type Product,
  type ProductContext,
  type ProductStock,
  receiveStock,
  updateProduct,
  withdrawProduct,
} from './products.ts'

const { sku: Sku, currency: Currency } = ProductCreated.properties
const closed = { additionalProperties: false }
const Name = withoutNul(Type.String({ minLength: 1, maxLength: 500 }))
const NewSku = Type.String({ minLength: 1, maxLength: 64, pattern: '^[!-~]+$' })
const Price = Type.Integer({ minimum: 0, maximum: 1e15, description: 'minor units, tax included' })
const Quantity = Type.Integer({ minimum: 0, maximum: 1e9 })

const ProductAnswer = Type.Object({
  sku: Sku,
  name: Type.String(),
  unitPrice: Price,
  currency: Currency,
  withdrawn: Type.Boolean(),
  version: Type.Integer({ description: '1, and one more for each change' }),
})
const StockAnswer = Type.Object(
  {
    sku: Sku,
    received: Type.Integer(),
    available: Type.Integer(),
    reserved: Type.Integer(),
    committed: Type.Integer(),
    lowLevel: Type.Integer(),
    restockQuantity: Type.Integer(),
  },
  { description: 'received = available + reserved + committed' },
)
const Created = Type.Object(
  {
    sku: NewSku,
    name: Name,
    unitPrice: Price,
    currency: Currency,
    stock: Type.Optional(
      Type.Object(
        {
          quantity: Type.Optional(Quantity),
          lowLevel: Type.Optional(Quantity),
          restockQuantity: Type.Optional(Quantity),
        },
        closed,
      ),
    ),
  },
  closed,
)
const Changed = Type.Object(
  {
    name: Type.Optional(Name),
    unitPrice: Type.Optional(Price),
    currency: Type.Optional(Currency),
    lowLevel: Type.Optional(Quantity),
    restockQuantity: Type.Optional(Quantity),
  },
  { ...closed, minProperties: 1 },
)
const Received = Type.Object(
  {
    // These two are causes of the pipeline's own.
    cause: Type.String({
      pattern: '^(?!initial$|restock:)[!-~]{1,200}$',
      description: 'what for, such as a delivery note: received once for each product',
    }),
    quantity: Type.Integer({ minimum: 1, maximum: 1e9 }),
  },
  closed,
)
const ReceiptAnswer = Type.Object({ cause: Type.String(), sku: Sku, quantity: Type.Integer() })
// Of whoever made it: the sku may hold what a new one may not.
const OneProduct = Type.Object({ sku: withoutNul(Sku) })
const PageQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }),
    cursor: Type.Optional(
      Type.String({ maxLength: 300, pattern: '^[A-Za-z0-9_-]+$', description: '`next` of the page before' }),
    ),
  },
  closed,
)
type PageQuery = Static<typeof PageQuery>

export function addProductRoutes(server: FastifyInstance, context: ProductContext): void {
  addReading(server, context)
  addWriting(server, context)
}

function addReading(server: FastifyInstance, { database }: ProductContext): void {
  const tags = ['products']
  const next = Type.Optional(Type.String())
  server.get<{ Querystring: PageQuery }>(
    '/products',
    {
      schema: {
        tags,
        summary: 'Products in the order of their skus, withdrawn ones too',
        querystring: PageQuery,
        response: { 200: Type.Object({ products: Type.Array(ProductAnswer), next }), ...problems(400, 503) },
      },
    },
    async ({ query }) => {
      const { products, next } = await listProducts(database, toPage(query))
      return { products: products.map(toAnswer), ...toNext(next) }
    },
  )
  server.get<{ Params: { sku: string } }>(
    '/products/:sku',
    {
      schema: {
        tags,
        summary: 'A product with its stock',
        params: OneProduct,
        response: {
          200: Type.Object({ ...ProductAnswer.properties, stock: StockAnswer }),
          ...problems(400, 404, 503),
        },
      },
    },
    async ({ params: { sku } }) => {
      const found = await findProduct(database, sku)
      if (!found) throw new Problem('unknown-product', `there is no product ${sku}`)
      return { ...toAnswer(found), stock: found.stock }
    },
  )
  server.get<{ Querystring: PageQuery }>(
    '/stock',
    {
      schema: {
        tags,
        summary: 'Stock levels in the order of their skus',
        querystring: PageQuery,
        response: { 200: Type.Object({ stock: Type.Array(StockAnswer), next }), ...problems(400, 503) },
      },
    },
    async ({ query }): Promise<{ stock: ProductStock[]; next?: string }> => {
      const { stock, next } = await listStock(database, toPage(query))
      return { stock, ...toNext(next) }
    },
  )
}

function addWriting(server: FastifyInstance, context: ProductContext): void {
  const common = { tags: ['products'], security: [{ token: [] }] }
  server.post<{ Body: Static<typeof Created> }>(
    '/products',
    {
      schema: {
        ...common,
        summary: 'A new product',
        body: Created,
        response: { 201: ProductAnswer, ...problems(400, 401, 409, 413, 415, 503) },
      },
    },
    async ({ body: { sku, name, unitPrice, currency, stock } }, reply) => {
      const product = await createProduct(context, {
        ...{ sku, name, unitPriceMinor: unitPrice, currency },
        stock: { quantity: 0, lowLevel: 0, ...stock },
      })
      reply.code(201).header('location', `/products/${encodeURIComponent(sku)}`)
      return toAnswer(product)
    },
  )
  server.patch<{ Params: { sku: string }; Body: Static<typeof Changed> }>(
    '/products/:sku',
    {
      schema: {
        ...common,
        summary: 'Changes a product',
        params: OneProduct,
        body: Changed,
        response: { 200: ProductAnswer, ...problems(400, 401, 404, 409, 413, 415, 503) },
      },
    },
    async ({ params: { sku }, body: { unitPrice: unitPriceMinor, ...changes } }) =>
      toAnswer(await updateProduct(context, sku, { ...changes, unitPriceMinor })),
  )
  server.delete<{ Params: { sku: string } }>(
    '/products/:sku',
    {
      schema: {
        ...common,
        summary: 'Takes a product off sale, for good',
        params: OneProduct,
        response: { 200: ProductAnswer, ...problems(400, 401, 404, 503) },
      },
    },
    async ({ params: { sku } }) => toAnswer(await withdrawProduct(context, sku)),
  )
  server.post<{ Params: { sku: string }; Body: Static<typeof Received> }>(
    '/products/:sku/stock',
    {
      schema: {
        ...common,
        summary: 'Goods that came in; the same cause again is booked once',
        params: OneProduct,
        body: Received,
        response: {
          200: ReceiptAnswer,
          201: ReceiptAnswer,
          ...problems(400, 401, 404, 409, 413, 415, 422, 503),
        },
      },
    },
    async ({ params: { sku }, body: { cause, quantity } }, reply) => {
      const { isRepeated, ...receipt } = await receiveStock(context.database, { cause, sku, quantity })
      if (receipt.quantity !== quantity) {
        throw new Problem('receipt-booked', `${cause} was booked with ${receipt.quantity} pieces of ${sku}`)
      }
      reply.code(isRepeated ? 200 : 201)
      return receipt
    },
  )
}

function toAnswer({ sku, name, unitPriceMinor, currency, withdrawn, version }: Product) {
  return { sku, name, unitPrice: unitPriceMinor, currency, withdrawn, version }
}

function toPage({ limit, cursor }: PageQuery): { limit: number; after: string | undefined } {
  if (cursor === undefined) return { limit, after: undefined }
  // Whatever it says is a place to go on after; a NUL is none that PostgreSQL knows.
  return { limit, after: Buffer.from(cursor, 'base64url').toString().replaceAll('\0', '') }
}

function toNext(sku: string | undefined): { next?: string } {
  return sku === undefined ? {} : { next: Buffer.from(sku).toString('base64url') }
}
