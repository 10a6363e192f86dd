/** What is said about a request that was sent to a worker: where, by whom, and whether all of it has been said. */
import type {
  FraudAssessed,
  InventoryUpdated,
  OrderAssessed,
  OrderCompleted,
  OrderPriced,
  OrderRejected,
  OrderValidated,
  PaymentEvent,
} from './events.ts'
import { JUDGE_NAMES, JUDGES, type JudgeName, type Verdict } from './judges.ts'
import { defineTopics, type Topic, type TopicTable } from './topics.ts'

export type AnswerEvent =
  | OrderValidated
  | OrderRejected
  | OrderCompleted
  | InventoryUpdated
  | PaymentEvent
  | FraudAssessed
  | OrderPriced
  | OrderAssessed

/** What somebody has said about the request. */
export interface Said {
  from: JudgeName | 'validator' | 'fulfilment'
  event: AnswerEvent
}

/** A topic on which answers come. */
export interface AnswerTopic {
  name: string
  from: Said['from']
  /** @throws UnusableRecordError */
  decode(value: Buffer): AnswerEvent
}

export function isJudge(worker: string): worker is JudgeName {
  return JUDGE_NAMES.includes(worker as JudgeName)
}

/** Where it is answered; nowhere for a worker that is no part of the flow of orders. */
export function answerTopics(topics: TopicTable, worker: string): AnswerTopic[] {
  if (isJudge(worker)) {
    const { name, open } = topics.answers
    // There lies what several judges say; this one says what it says on its own topic, too.
    const plain = eventsOf(defineTopics(''), worker)
    return [{ name, from: worker, decode: (value) => plain.decode(open(value)) }]
  }
  const { ordersValidated, ordersRejected, ordersCompleted } = topics
  const judged: AnswerTopic[] = [
    ...JUDGE_NAMES.map((judge) => ({ ...eventsOf(topics, judge), from: judge })),
    { ...ordersCompleted, from: 'fulfilment' },
  ]
  if (worker === 'judges') return judged
  if (worker !== 'validator') return []
  return [{ ...ordersValidated, from: 'validator' }, { ...ordersRejected, from: 'validator' }, ...judged]
}

function eventsOf(topics: TopicTable, judge: JudgeName): Topic<AnswerEvent> {
  return topics[`${judge}Events`] as unknown as Topic<AnswerEvent>
}

/** What is still to be said, in words; nothing when all has been said. */
export function missingAnswers(worker: string, said: readonly Said[]): string[] {
  if (isJudge(worker)) return missingOf(worker, said, true)
  if (worker === 'judges') return missingOfAll(said)
  if (worker !== 'validator') return []
  const answer = said.find(({ from }) => from === 'validator')
  if (!answer) return ['the answer of validator']
  return answer.event.type === 'OrderValidated' ? missingOfAll(said) : []
}

function missingOfAll(said: readonly Said[]): string[] {
  const isDecided = said.some(({ from }) => from === 'fulfilment')
  const missing = JUDGE_NAMES.flatMap((judge) => missingOf(judge, said, isDecided))
  return isDecided ? missing : [...missing, 'the decision of fulfilment']
}

/** @param isSettled it is to carry out a decision, too, when it has let the order pass */
function missingOf(judge: JudgeName, said: readonly Said[], isSettled: boolean): string[] {
  const verdict = verdictOf(judge, said)
  if (!verdict) return [`the verdict of ${judge}`]
  if (!isSettled || !JUDGES[judge].settles || verdict.result === 'fail') return []
  const settled = said.some(({ from, event }) => from === judge && !readVerdict(judge, event))
  return settled ? [] : [`what ${judge} did about the decision`]
}

/** The verdict of a judge, once it has said it. */
export function verdictOf(judge: JudgeName, said: readonly Said[]): Verdict | undefined {
  for (const { from, event } of said) {
    const verdict = from === judge ? readVerdict(judge, event) : undefined
    if (verdict) return verdict
  }
  return undefined
}

function readVerdict(judge: JudgeName, event: AnswerEvent): Verdict | undefined {
  return JUDGES[judge].read(event as never)
}
