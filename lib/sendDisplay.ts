/** What `npm run send` prints. Labels are what others sent: nothing in them may control a terminal. */
import { printable } from './dlqDisplay.ts'
import { formatMoney } from './money.ts'
import type { AnswerEvent } from './sendAnswers.ts'
import type { SendResult } from './sending.ts'
import type { HopStep, Step } from './sendTrail.ts'
import { formatSeconds } from './text.ts'

const NONE = '-'
const MS_WIDTH = 5

/** '  +31 ms  send -> fraud  fraud.requests  route 5  12 ms  ok', or who said what. */
export function formatStep(step: Step, sentAtMs: number): string {
  const after = `+${step.atMs - sentAtMs}`.padStart(MS_WIDTH)
  const what = step.kind === 'hop' ? hopText(step) : [`${step.from}: ${step.event.type}`, essence(step.event)]
  return `${after} ms  ${what.filter((part) => part !== '').join('  ')}`
}

function hopText({
  sender,
  workerName,
  targetTopic,
  routeId,
  processingTimeMs,
  error,
}: HopStep): readonly string[] {
  return [
    `${printable(sender) || '(nobody)'} -> ${printable(workerName) || '(nobody)'}`,
    targetTopic ?? NONE,
    `route ${routeId ?? NONE}`,
    `${processingTimeMs} ms`,
    error === undefined ? 'ok' : `refused: ${printable(error)}`,
  ]
}

/** What an answer says, in a few words. */
function essence(event: AnswerEvent): string {
  switch (event.type) {
    case 'InventoryUpdated':
      return [event.status, event.availability, ...event.shortages.map(({ sku }) => sku)].join(' ')
    case 'PaymentProcessed':
    case 'PaymentCaptured':
    case 'PaymentVoided':
      return formatMoney(event.amount, event.currency)
    case 'PaymentFailed':
      return `${formatMoney(event.amount, event.currency)} ${printable(event.reason)}`
    case 'FraudAssessed':
      return [event.verdict, event.riskScore, ...event.rules.map(({ rule }) => rule)].join(' ')
    case 'OrderPriced': {
      const codes = event.discounts.map(({ code }) => code)
      return [formatMoney(event.total, event.currency), ...codes].join(' ')
    }
    case 'OrderAssessed':
      return [event.verdict, ...codesOf(event.reasons)].join(' ')
    case 'OrderConfirmed':
      return [
        formatMoney(event.total, event.currency),
        event.shipmentNumber,
        ...codesOf(event.warnings),
      ].join(' ')
    case 'OrderValidated':
      return formatMoney(event.total, event.currency)
    case 'OrderRejected':
    case 'OrderCancelled':
      return codesOf(event.reasons).join(' ')
  }
}

function codesOf(reasons: readonly { code: string }[]): string[] {
  return reasons.map(({ code }) => printable(code))
}

/** One sentence about how it ended, for standard output when all came and standard error when not. */
export function formatEnd(result: SendResult): string {
  const { worker, missing, refused, tookBack, steps, sentAtMs, waitedMs } = result
  const undone = tookBack ? `; ${worker} was told to take back what it does for it` : ''
  if (refused) {
    const what = `${printable(refused.sender)} -> ${printable(refused.workerName)}`
    return (
      `the Command Center refused ${what}: ${printable(refused.error ?? '')}${undone} ` +
      '(it is kept: npm run dlq -- list --group command-center)'
    )
  }
  if (missing.length > 0) {
    return `not all came within ${formatSeconds(waitedMs)}: missing ${missing.join(', ')}${undone}`
  }
  const lastMs = (steps.at(-1)?.atMs ?? sentAtMs) - sentAtMs
  return `all came within ${lastMs} ms${tookBack ? ', and what was done is taken back' : ''}`
}

/** The whole of it as one object. */
export function toJson(result: SendResult): object {
  const { requestId, worker, sentAtMs, steps, missing, refused, tookBack } = result
  return {
    ...{ requestId, worker, sentAt: new Date(sentAtMs).toISOString(), tookBack },
    ok: missing.length === 0 && !refused,
    missing,
    steps: steps.map(({ atMs, ...step }) => ({ afterMs: atMs - sentAtMs, ...step })),
  }
}
