/**
 * What bench/api.ts is compared with: a server that does all work on an order inside of the request, as one would
 * without a log. Validation, customer look-up, stock, the call to the payment gateway, rows in PostgreSQL, answer.
 */
import Fastify from 'fastify'
import Type, { type Static } from 'typebox'
import { untilAborted } from '../lib/async.ts'
import { CustomerLookup } from '../lib/customers.ts'
import { type Client, inTransaction, query } from '../lib/database.ts'
import { OrderPlaced } from '../lib/events.ts'
import { runMain } from '../lib/service.ts'

const Order = Type.Object({
  customerId: OrderPlaced.properties.customerId,
  currency: OrderPlaced.properties.currency,
  items: OrderPlaced.properties.items,
  shippingAddress: OrderPlaced.properties.shippingAddress,
})
type Order = Static<typeof Order>

const CONNECTIONS = 16

await runMain('synchronous-api', 'The work on an order inside of the request.', {}, async (service) => {
  const { config, signal } = service
  const database = await service.openDatabase(CONNECTIONS)
  await database.query(`CREATE TABLE IF NOT EXISTS synchronous_orders
                        (order_id text PRIMARY KEY, body text, status text)`)
  const customers = new CustomerLookup(database)
  const gatewayUrl = `http://127.0.0.1:${config.gateway.port}/authorisations`
  const server = Fastify({ logger: false, forceCloseConnections: true })
  server.get('/health/ready', () => ({ ready: true }))
  server.post<{ Body: Order; Headers: { 'idempotency-key': string } }>(
    '/orders',
    { schema: { body: Order } },
    async ({ body, headers }, reply) => {
      const orderId = headers['idempotency-key']
      const customer = (await customers.find([body.customerId])).get(body.customerId)
      if (!customer || customer.blocked) return reply.code(422).send({ error: 'no such customer' })
      const total = body.items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
      const isReserved = await inTransaction(database, (client) => reserve(client, orderId, body))
      const isPaid = await authorise(gatewayUrl, { orderId, amount: total, currency: body.currency })
      const status = isReserved && isPaid ? 'CONFIRMED' : 'CANCELLED'
      await query(database, {
        name: 'decide',
        text: 'UPDATE synchronous_orders SET status = $2 WHERE order_id = $1',
        values: [orderId, status],
      })
      return reply.code(201).send({ orderId, status })
    },
  )
  await server.listen({ host: '127.0.0.1', port: config.api.port })
  service.onClose(() => server.close())
  await untilAborted(new Promise(() => undefined), signal)
})

/** @returns false when there is not enough; products sorted, so that two requests cannot deadlock */
async function reserve(client: Client, orderId: string, body: Order): Promise<boolean> {
  await query(client, {
    name: 'place',
    text: `INSERT INTO synchronous_orders VALUES ($1, $2, 'PENDING')`,
    values: [orderId, JSON.stringify(body)],
  })
  const skus = body.items.map(({ sku }) => sku)
  const levels = await query<{ sku: string; available: number }>(client, {
    name: 'lock',
    text: 'SELECT sku, available FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE',
    values: [skus],
  })
  const available = new Map(levels.map(({ sku, available }) => [sku, available]))
  if (body.items.some(({ sku, quantity }) => (available.get(sku) ?? 0) < quantity)) return false
  await query(client, {
    name: 'reserve',
    text: `UPDATE stock SET available = available - quantity, reserved = reserved + quantity
           FROM (SELECT sku, sum(quantity)::bigint AS quantity FROM unnest($1::text[], $2::bigint[]) AS t (sku, quantity)
                 GROUP BY sku) AS taken WHERE stock.sku = taken.sku`,
    values: [skus, body.items.map(({ quantity }) => quantity)],
  })
  return true
}

async function authorise(
  url: string,
  payment: { orderId: string; amount: number; currency: string },
): Promise<boolean> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': payment.orderId },
    body: JSON.stringify(payment),
  })
  await response.arrayBuffer()
  return response.ok
}
