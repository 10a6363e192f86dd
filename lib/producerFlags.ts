import { randomInt } from 'node:crypto'
import { ConfigurationError } from './errors.ts'
import { readNumberFlag } from './numberFlag.ts'

export const PRODUCER_FLAGS = {
  seed: { type: 'string' },
  rate: { type: 'string' },
  max: { type: 'boolean' },
  orders: { type: 'string' },
  file: { type: 'string' },
  speed: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

export interface ProducerFlagValues {
  seed?: string
  rate?: string
  max?: boolean
  orders?: string
  file?: string
  speed?: string
  json?: boolean
}

/** How fast a history is replayed: so many times real time, so many orders a second, or as fast as it goes. */
export type Tempo = { speed: number } | { ratePerSecond: number } | 'max'

/** What the producer is asked to do. */
export interface ProducerPlan {
  source:
    | { kind: 'simulator'; seed: number; rate: number | 'environment' | 'max' }
    | { kind: 'file'; file: string; tempo: Tempo }
  /** Infinity for no end. */
  orders: number
  json: boolean
}

/** @throws ConfigurationError for a value that is none and for flags that contradict each other */
export function readPlan(values: ProducerFlagValues): ProducerPlan {
  const { seed, rate, max, orders, file, speed, json = false } = values
  const refuse = (sentence: string): never => {
    throw new ConfigurationError(sentence)
  }
  const number = (flag: string, text: string, min: number, max: number, isWhole: boolean) =>
    readNumberFlag(flag, text, { min, max, isWhole })

  if (max && rate !== undefined) refuse('--max and --rate contradict each other: give one of them')
  if (speed !== undefined && file === undefined) refuse('--speed says how fast to replay: it needs --file')
  if (speed !== undefined && rate !== undefined) {
    refuse('--speed and --rate contradict each other: give one of them')
  }
  if (file !== undefined && seed !== undefined)
    refuse('--file and --seed contradict each other: a history has no chance in it')
  if (max && speed !== undefined) refuse('--max and --speed contradict each other: give one of them')

  const common = {
    orders: orders === undefined ? Number.POSITIVE_INFINITY : number('orders', orders, 1, 1e12, true),
    json,
  }
  const ratePerSecond = rate === undefined ? undefined : number('rate', rate, 0.001, 1_000_000, false)
  if (file !== undefined) {
    const times = speed === undefined ? undefined : number('speed', speed, 0.001, 1e9, false)
    const tempo =
      times !== undefined ? { speed: times } : ratePerSecond !== undefined ? { ratePerSecond } : 'max'
    return { source: { kind: 'file', file, tempo }, ...common }
  }
  return {
    source: {
      kind: 'simulator',
      seed: seed === undefined ? randomInt(2 ** 32) : number('seed', seed, 0, 2 ** 32 - 1, true),
      rate: max ? 'max' : (ratePerSecond ?? 'environment'),
    },
    ...common,
  }
}
