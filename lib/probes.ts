import { channel } from 'node:diagnostics_channel'

/**
 * The moments at which an end of the process tells most: what was done before each has to count once, and what comes
 * after it has not happened.
 *
 *   - joined: the group has handed out partitions
 *   - fenced: the writer of the process is open, and a task has not yet looked where to read
 *   - charged: the gateway has answered for an order, and nobody has written that down
 *   - effects-done: the database has committed, Kafka has not
 *   - records-sent: results are in an open transaction, offsets are not
 *   - offsets-sent: both are, and it is not committed
 */
export const PROBES = ['joined', 'fenced', 'charged', 'effects-done', 'records-sent', 'offsets-sent'] as const
export type Probe = (typeof PROBES)[number]

/** Where a subscriber finds it (node:diagnostics_channel): a fault run kills there, a trace could begin there. */
export const channelOf = (probe: Probe): string => `order-pipeline:${probe}`

const channels = Object.fromEntries(PROBES.map((probe) => [probe, channel(channelOf(probe))])) as Record<
  Probe,
  ReturnType<typeof channel>
>

/** Says that this moment has come. Costs next to nothing while nobody listens. */
export function passProbe(probe: Probe): void {
  channels[probe].publish(undefined)
}
