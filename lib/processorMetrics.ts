import type { Registry } from 'prom-client'
import { addCounter, addGauge, addHistogram, type Readings } from './metrics.ts'
import type { Processor } from './processor.ts'

/**
 * The figures of a processor for Prometheus: all are read when they are asked for, from what it counts anyway.
 *
 * @param topicPrefix taken off the names of topics
 */
export function addProcessorMetrics(
  registry: Registry,
  processor: Pick<Processor<never, never>, 'counters' | 'status' | 'lags'>,
  topicPrefix: string,
): void {
  const { counters } = processor
  const topic = (name: string) => name.slice(topicPrefix.length)
  const byTopic = <Value>(values: ReadonlyMap<string, Value>): Readings<Value> =>
    [...values].map(([name, value]) => [{ topic: topic(name) }, value] as const)
  const byPartition = (read: (lag: { records: number; seconds: number }) => number): Readings =>
    processor.lags.map((lag) => [{ topic: topic(lag.topic), partition: lag.partition }, read(lag)] as const)
  const alone = (value: number): Readings => [[{}, value]]
  const counter = (name: string, help: string, read: () => Readings, labelNames: string[] = []) =>
    addCounter({ registry, name: `pipeline_${name}`, help, labelNames }, read)
  const gauge = (name: string, help: string, read: () => Readings, labelNames: string[] = []) =>
    addGauge({ registry, name: `pipeline_${name}`, help, labelNames }, read)
  const histogram = (name: string, help: string, read: Parameters<typeof addHistogram>[1]) =>
    addHistogram({ registry, name: `pipeline_${name}`, help }, read)

  counter('records_in_total', 'Records worked on, committed', () => byTopic(counters.inByTopic), ['topic'])
  counter('records_out_total', 'Records written, committed', () => byTopic(counters.out), ['topic'])
  counter('dead_letters_total', 'Records that could not be used', () => alone(counters.deadLetters))
  counter('retries_total', 'Asks repeated because a dependency did not answer', () => alone(counters.retries))
  counter('task_restarts_total', 'Tasks that had to start again', () => alone(counters.restarts))
  const { transactions } = counters
  counter(
    'transactions_total',
    'Kafka transactions: committed, or aborted, which is not known to be committed',
    () => [
      [{ result: 'committed' }, transactions.committed],
      [{ result: 'aborted' }, transactions.aborted],
    ],
    ['result'],
  )
  histogram('transaction_records', 'Records worked on in one transaction, of those that carry any', () => [
    [{}, counters.transactionRecords],
  ])
  histogram('transaction_duration_seconds', 'From its first record to its commit', () => [
    [{}, counters.transactionSeconds],
  ])
  histogram('record_latency_seconds', 'From sent to Kafka to committed by this group', () =>
    byTopic(counters.recordSeconds),
  )
  histogram('order_latency_seconds', 'From placed to committed by this group', () =>
    byTopic(counters.orderSeconds),
  )
  gauge('tasks', 'Partitions that this process works on', () => alone(processor.status.tasks.length))
  gauge('paused', 'Whether it is told to do nothing (1) or not (0)', () =>
    alone(processor.status.isPaused ? 1 : 0),
  )
  gauge('records_queued', 'Records in memory that wait', () => alone(processor.status.queued))
  gauge('partitions_paused', 'Partitions whose queue is full', () => alone(processor.status.paused.length))
  const partition = ['topic', 'partition']
  gauge('lag_records', 'Records not committed yet', () => byPartition(({ records }) => records), partition)
  gauge('lag_seconds', 'Age of the oldest of them', () => byPartition(({ seconds }) => seconds), partition)
}
