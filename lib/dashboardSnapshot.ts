/**
 * What the dashboard's page is told: a {@link DashboardSnapshot} each second as a server-sent event, and on connection a
 * {@link DashboardHistory} before it. Money is in minor units by currency, times are in milliseconds since 1970.
 */
import type { MinuteRow, ProductRow } from './orderStatistics.ts'

type Money = Record<string, number>

/** One point of the moving charts; one a second, the last {@link HISTORY_SECONDS} of them are kept. */
export interface DashboardPoint {
  atMs: number
  ordersPerSecond: number
  bookedPerMinuteMinor: Money
  capturedPerMinuteMinor: Money
}

export const HISTORY_SECONDS = 900

export interface DashboardHistory {
  /** Another one than before: the server was started again. */
  serverId: string
  points: DashboardPoint[]
}

/** silent: it runs and does not answer; gone: it ran and does not any more; absent: none has been seen. */
export type StageState = 'running' | 'starting' | 'waiting' | 'paused' | 'silent' | 'gone' | 'absent'

/** One box of the picture: a consumer group, or a process that feeds one (producer, api) or serves one (gateway). */
export interface DashboardStage {
  name: string
  state: StageState
  instances: number
  /** Records worked on and written a second, over the last seconds, of all instances. */
  inPerSecond: number
  outPerSecond: number
  /** By Kafka's own books, control records included; undefined for what is no consumer group, or while Kafka is away. */
  lag: number | undefined
  /** From being sent to Kafka to being committed, over the last seconds, the worst of all instances. */
  p50Ms: number | undefined
  p99Ms: number | undefined
  /** Dead letters among the records of the last minute. */
  errorShare: number
  deadLetters: number
  /** Of the circuit to the payment gateway, for payment alone. */
  breaker?: 'open' | 'closed'
}

export interface DashboardPartition {
  topic: string
  partition: number
  committed: number
  end: number
  lag: number
  /** Who reads it, as in {@link DashboardMember}. */
  member: string | undefined
}

export interface DashboardMember {
  id: string
  host: string
  partitions: number[]
}

export interface DashboardGroup {
  group: string
  /** Kafka's word: Stable, PreparingRebalance, Empty, Dead ... */
  state: string
  lag: number
  members: DashboardMember[]
  partitions: DashboardPartition[]
}

export interface DashboardFault {
  /** Grows by one with each. */
  id: number
  atMs: number
  kind:
    | 'instance-gone'
    | 'instance-back'
    | 'instance-silent'
    | 'instance-answers'
    | 'rebalance'
    | 'circuit-open'
    | 'circuit-closed'
    | 'dead-letters'
    | 'paused'
    | 'resumed'
    | 'unavailable'
    | 'available'
  service: string
  text: string
}

/** Whether orders, revenue and ends below are of all partitions, or of those of this instance. */
export interface DashboardSnapshot extends DashboardPoint {
  serverId: string
  partitions: { shown: number; of: number | undefined }
  /** Arrival of the oldest record counted. */
  sinceMs: number | undefined
  orders: number
  bookedMinor: Money
  capturedMinor: Money
  ends: {
    confirmed: number
    cancelled: { orders: number; reasons: Record<string, number> }
    rejected: { orders: number; reasons: Record<string, number> }
    /** In the dead-letter topics, by group, by reading them; those that were redriven included. */
    deadLettered: Record<string, number>
  }
  topProducts: ProductRow[]
  /** The latest minutes of the event-time table, oldest first. */
  minutes: MinuteRow[]
  stages: DashboardStage[]
  groups: DashboardGroup[]
  /** The latest, newest first. */
  faults: DashboardFault[]
  /** Orders seen lately, newest first, to pick one from. */
  recentOrders: { orderId: string; atMs: number; end: string }[]
  /** Whether there are controls; they ask for a token. */
  controls: boolean
  simulator?: { ratePerSecond: number }
}
