/** The payment gateway of the tour: its switches, and its own books. */
import { query } from './database.ts'
import { describe } from './errors.ts'
import type { GatewaySettings } from './gatewayServer.ts'
import type { Logger } from './log.ts'
import type { TourPipeline } from './tourPipeline.ts'
import type { TourRecord } from './tourRecords.ts'
import type { Tour } from './tourSteps.ts'

/** Sets switches, as somebody would by hand. */
export async function setFaults(
  { pipeline: { gatewayUrl }, narrator }: Tour,
  faults: Partial<GatewaySettings>,
): Promise<void> {
  const body = JSON.stringify(faults)
  narrator.command(`curl -X PUT ${gatewayUrl}/faults -H 'content-type: application/json' -d '${body}'`)
  const answer = await fetch(`${gatewayUrl}/faults`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body,
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`the gateway refuses ${body}: ${answer.status} ${text}`)
  narrator.show([text])
}

/** Sets all switches back, whether or not the gateway hears it. */
export async function healGateway({ gatewayUrl }: TourPipeline, log: Logger): Promise<void> {
  const body = JSON.stringify({ errorRatio: 0, dropRatio: 0 })
  const headers = { 'content-type': 'application/json' }
  await fetch(`${gatewayUrl}/faults`, { method: 'PUT', headers, body }).catch((error) =>
    log.debug(`the gateway is not healed: ${describe(error)}`),
  )
}

/** How many requests of payment the gateway has not answered, or with an error. */
export function countUnanswered(pipeline: TourPipeline, payment: string): Promise<number> {
  return pipeline.members.metric(payment, 'payment_gateway_requests_total', 'result="no-answer"')
}

/** A row of the gateway's ledger. */
export type LedgerRow = {
  operation: string
  status: string
  idempotencyKey: string
  amountMinor: number
  currency: string
  authorisationId: string | null
}

/** What the gateway has written down for an order, by operation. */
export function readLedger({ database }: TourPipeline, orderId: string): Promise<LedgerRow[]> {
  return query<LedgerRow>(database, {
    text: `SELECT operation, status, idempotency_key AS "idempotencyKey", amount_minor AS "amountMinor", currency,
             authorisation_id AS "authorisationId"
           FROM gateway.ledger WHERE order_id = $1 ORDER BY operation`,
    values: [orderId],
  })
}

/** How often the gateway has charged these orders, all together. */
export async function countCharges(
  { database }: TourPipeline,
  placed: readonly TourRecord[],
): Promise<number> {
  const [row] = await query<{ charges: number }>(database, {
    text: `SELECT count(*) AS charges FROM gateway.ledger WHERE operation = 'authorise' AND order_id = ANY ($1)`,
    values: [placed.map(({ orderId }) => orderId)],
  })
  return row!.charges
}
