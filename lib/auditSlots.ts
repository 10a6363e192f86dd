/**
 * What can be said about an order. A slot is something that is said about it at most once: the verdict of a judge, how
 * it was settled, the decision. In each slot two kinds of answer exclude one another.
 */
import { JUDGE_NAMES, JUDGES, type JudgeName } from './judges.ts'

export const Slot = { stock: 0, stockSettled: 1, payment: 2, paymentSettled: 3, decision: 4 } as const

/** A verdict of any other judge is of the first kind of its slot when it does not fail the order, else of the second. */
export const Kind = {
  reserved: 0,
  notReserved: 1,
  committed: 2,
  released: 3,
  authorised: 4,
  declined: 5,
  captured: 6,
  voided: 7,
  confirmed: 8,
  cancelled: 9,
} as const

/** A number: two for each slot. */
export type Kind = number

/** Where what is said in a slot is stored as an outcome. */
export interface OutcomeRows {
  table: string
  operation: string
}

const SETTLE = 'settle'

const SLOT_OF_VERDICT = new Map<JudgeName, number>([
  ['inventory', Slot.stock],
  ['payment', Slot.payment],
])
/** By slot; undefined for what is stored nowhere. */
export const STORED: (OutcomeRows | undefined)[] = [
  ...(['inventory', 'payment'] as const).flatMap((name) => [
    outcomesOf(name),
    { table: tableOf(name), operation: SETTLE },
  ]),
  { table: tableOf('fulfilment'), operation: 'decide' },
]
for (const name of JUDGE_NAMES) {
  if (!SLOT_OF_VERDICT.has(name)) SLOT_OF_VERDICT.set(name, STORED.push(outcomesOf(name)) - 1)
}

/** The tables of outcomes, each once. */
export const OUTCOME_TABLES = [...new Set(STORED.flatMap((rows) => rows?.table ?? []))]

export function tableOf(group: JudgeName | 'fulfilment'): string {
  return `${group}_outcomes`
}

function outcomesOf(judge: JudgeName): OutcomeRows | undefined {
  const operation = JUDGES[judge].stores
  return operation === undefined ? undefined : { table: tableOf(judge), operation }
}

export function slotOf(kind: Kind): number {
  return kind >> 1
}

export function slotOfVerdict(judge: JudgeName): number {
  return SLOT_OF_VERDICT.get(judge)!
}

export function kindOfVerdict(judge: JudgeName, isFailed: boolean): Kind {
  return slotOfVerdict(judge) * 2 + Number(isFailed)
}

/** The bits of both kinds of a slot. */
export function bitsOf(slot: number): number {
  return 0b11 << (slot * 2)
}
