import { JUDGE_NAMES, type JudgeName } from './judges.ts'
import { DeadLetter, type Outcome } from './record.ts'
import type { ServiceWork } from './service.ts'
import type { Topic, TopicTable } from './topics.ts'

/**
 * A judge that can also be asked beside the flow of orders: by the Command Center, about a request of its own. The work is
 * the same; only what is answered goes to whoever asked, since no order waits for it.
 */
export function withRequests<Event, State>(
  group: string,
  work: ServiceWork<Event, State>,
  topics: TopicTable,
): ServiceWork<Event, State> {
  if (!topics.isRouted || !JUDGE_NAMES.includes(group as JudgeName)) return work
  const requests = topics[`${group as JudgeName}Requests`] as unknown as Topic<Event>
  const { answers } = topics
  const redirect = (outcome: Outcome): Outcome => {
    if (outcome instanceof DeadLetter) return outcome
    return outcome.map((outgoing) => ({ ...outgoing, topic: answers.name }))
  }
  return {
    ...work,
    inputs: [...work.inputs, requests],
    outputs: [...work.outputs, answers],
    async handle(records, state) {
      const outcomes = await work.handle(records, state)
      return outcomes.map((outcome, index) =>
        records[index]!.topic === requests.name ? redirect(outcome) : outcome,
      )
    },
  }
}
