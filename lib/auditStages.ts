/**
 * Who answers whom. Judges are taken from lib/judges.ts: one that says OrderAssessed, and stores nothing or stores its
 * verdicts in `<name>_outcomes`, needs no line here. What else the auditor has to know of a new service:
 *
 *   1. a group that answers orders: its line in `STAGES`; one that only reads them: its line in `READERS`;
 *   2. an event of a kind of its own: a function that reads it, in lib/auditEvents.ts;
 *   3. a topic that is none of a judge: its line in lib/auditIntake.ts, and in `WAVES` of lib/audit.ts before its cause.
 */
import { Slot, slotOf } from './auditSlots.ts'
import { JUDGE_NAMES, JUDGES, type JudgeName } from './judges.ts'
import { HOP_HEADER } from './record.ts'
import type { GroupName, TopicTable } from './topics.ts'

/** The topics of the table that carry events of orders. */
export type OrderTopic = Exclude<keyof TopicTable, 'products' | 'deadLetters' | 'retries' | 'isRouted'>

export interface StageDefinition {
  group: GroupName
  input: OrderTopic
  /** What checks call a record of the input, and an answer to it; without one, dead letters alone are written. */
  cause: string
  answer?: string
  /** Where answers are written, besides the dead letters. */
  outputs: readonly OrderTopic[]
  guarantee: number
  /**
   * `each`: every input has exactly one. `order`: every order has exactly one, so that an order that was validated
   * again has it already. `any`: at most one.
   */
  demand: 'each' | 'order' | 'any'
  /** An answer can wait while those to later records are given, so that these say nothing about it. */
  mayWait?: boolean
  /** The header in which answers name their cause; `source` unless told otherwise. */
  causeHeader?: string
}

const placed = {
  input: 'ordersRaw',
  cause: 'order placed',
  outputs: ['ordersValidated', 'ordersRejected'],
} as const
const validated = { input: 'ordersValidated', cause: 'validated order' } as const
const completed = { input: 'ordersCompleted', cause: 'decided order' } as const
const decision = { answer: 'decision', outputs: ['ordersCompleted'] } as const

/** Groups that write nothing but dead letters, with what each reads. */
const READERS: [group: GroupName, inputs: OrderTopic[]][] = [
  ['fulfilment', JUDGE_NAMES.map(eventsOf)],
  ['mail', ['ordersCompleted']],
  ['analytics', ['ordersValidated', 'ordersRejected', 'paymentEvents', 'ordersCompleted']],
  [
    'order-view',
    ['ordersRaw', 'ordersValidated', 'ordersRejected', ...JUDGE_NAMES.map(eventsOf), 'ordersCompleted'],
  ],
]

/** Where the Command Center forwards to: one result for each message, and none of its own making. */
const FORWARDING: StageDefinition = {
  group: 'command-center',
  input: 'inbox',
  cause: 'message',
  answer: 'forwarding',
  outputs: [
    'ordersRaw',
    'ordersValidated',
    'ordersRejected',
    ...JUDGE_NAMES.map(eventsOf),
    'ordersCompleted',
    ...JUDGE_NAMES.map((name) => `${name}Requests` as const),
    'answers',
  ],
  guarantee: 1,
  demand: 'each',
  causeHeader: HOP_HEADER,
}

/** Requests are answered beside the flow of orders: that an answer comes is between those two. */
const ROUTING_READERS: typeof READERS = [
  ...JUDGE_NAMES.map((judge): (typeof READERS)[number] => [judge, [`${judge}Requests`]]),
  ['metadata-log', ['hops']],
]

/** The stages of this wiring. */
export function stagesOf({ isRouted }: TopicTable): readonly StageDefinition[] {
  return isRouted ? [...STAGES, FORWARDING, ...toStages(ROUTING_READERS)] : STAGES
}

const STAGES: readonly StageDefinition[] = [
  { group: 'validator', ...placed, answer: 'validation', guarantee: 1, demand: 'each' },
  ...JUDGE_NAMES.flatMap(stagesOfJudge),
  { group: 'fulfilment', ...validated, ...decision, guarantee: 2, demand: 'order', mayWait: true },
  ...toStages(READERS),
]

function toStages(readers: typeof READERS): StageDefinition[] {
  return readers.flatMap(([group, inputs]) =>
    inputs.map((input) => {
      return { group, input, cause: 'record', outputs: [], guarantee: 1, demand: 'any' } as const
    }),
  )
}

function stagesOfJudge(group: JudgeName): StageDefinition[] {
  const { settles, stores } = JUDGES[group]
  const common = { group, outputs: [eventsOf(group)], guarantee: 2 }
  const demand = stores === undefined ? 'each' : 'order'
  const verdict = { ...common, ...validated, answer: `${group} verdict`, demand } as const
  const settlement = { ...common, ...completed, answer: `${group} settlement`, demand: 'any' } as const
  return settles ? [verdict, settlement] : [verdict]
}

/** The topic of a judge. */
export function eventsOf(judge: JudgeName): `${JudgeName}Events` {
  return `${judge}Events`
}

/** The topic whose records are answered by something of this kind. */
export function inputOfKind(kind: number): OrderTopic {
  const slot = slotOf(kind)
  return slot === Slot.stockSettled || slot === Slot.paymentSettled ? 'ordersCompleted' : 'ordersValidated'
}
