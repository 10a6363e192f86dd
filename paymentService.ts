/**
 * Authorises the payment of each validated order at the payment gateway.
 *
 *   orders.validated -> payment.events   PaymentProcessed (authorised) | PaymentFailed (declined)
 *
 * Guarantees: at most one authorisation and exactly one event for each order, whatever is killed. The gateway is
 * asked with an idempotency key for each order, so asking again after a crash charges nothing twice; its answer is
 * stored with the bytes of the event, which are published again, unchanged, when the Kafka transaction failed.
 * While the gateway or PostgreSQL is away, orders wait.
 *
 * Flags: --verbose prints each order. GATEWAY_URL names a gateway; without it this brings up the simulated one.
 */
import { decidePayments, type PaymentAnswers } from './lib/payment.ts'
import { createGatewayClient } from './lib/gatewayClient.ts'
