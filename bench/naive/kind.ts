import type { PipelineKind } from '../pipelineRun.ts'

/** The same services as loops of the usual kind (test/naive/service.ts), with the same gateway. */
export const NAIVE: PipelineKind = {
  name: 'naive loops, at-least-once',
  scriptOf: (name) => (name === 'paymentGateway' ? `${name}.ts` : `bench/naive/${name}.ts`),
  warmUpRate: 10,
  firstRate: 20,
}

/** With a message of each of the six partitions in hand: more than most do, and what waiting alone costs the others. */
export const NAIVE_AT_ONCE: PipelineKind = {
  ...NAIVE,
  name: 'naive loops, all partitions at once',
  settings: { NAIVE_PARTITIONS_AT_ONCE: '6' },
  warmUpRate: 20,
  firstRate: 40,
}
