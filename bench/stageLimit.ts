/** The limit: Kafka's own producer- and consumer-perf-test on the same orders, with nothing done to them. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findJava, kafkaClasspath } from '../infra/kafkaJars.ts'
import { run } from '../infra/serverProcess.ts'
import type { BenchContext } from './context.ts'
import { STAGE_PREFIX, type StageCluster } from './stageCluster.ts'

export interface LimitFigures {
  producedPerSecond: number
  consumedPerSecond: number
}

const TOPIC = `${STAGE_PREFIX}limit`

/** @throws Error with what the tool said */
export async function measureLimit(
  { dataDir }: Pick<BenchContext, 'dataDir'>,
  cluster: StageCluster,
): Promise<LimitFigures> {
  const { config, admin, orders, sample } = cluster
  const directory = join(dataDir, 'limit')
  await mkdir(directory, { recursive: true })
  const payload = join(directory, 'orders.txt')
  await writeFile(payload, sample)
  await admin.createTopics({ topics: [{ topic: TOPIC, numPartitions: config.partitions }] })
  const brokers = config.kafka.brokers.join(',')
  try {
    const produced = await runTool('ProducerPerformance', [
      ...['--topic', TOPIC, '--num-records', String(orders), '--throughput', '-1'],
      ...['--payload-file', payload, '--producer-props', `bootstrap.servers=${brokers}`],
      ...['batch.size=262144', 'linger.ms=20', 'acks=all'],
    ])
    const consumed = await runTool('ConsumerPerformance', [
      ...['--bootstrap-server', brokers, '--topic', config.topics.ordersRaw.name],
      ...['--num-records', String(orders), '--group', `limit-${process.pid}`],
    ])
    return {
      producedPerSecond: readFigure(produced, /records sent, ([\d.]+) records\/sec.*\n?$/),
      // The last of its columns: records a second while it fetched, without joining its group.
      consumedPerSecond: readFigure(consumed, /, ([\d.]+)\s*$/),
    }
  } finally {
    await admin.deleteTopics({ topics: [TOPIC] })
    await rm(directory, { recursive: true, force: true })
  }
}

async function runTool(name: string, args: string[]): Promise<string> {
  const { command } = await findJava()
  const result = await run(command, [
    '-cp',
    await kafkaClasspath(),
    `org.apache.kafka.tools.${name}`,
    ...args,
  ])
  if (result.status !== 0) throw new Error(`${name}: ${result.stderr.trim() || result.stdout.trim()}`)
  return result.stdout
}

function readFigure(text: string, pattern: RegExp): number {
  const figure = pattern.exec(text.trim())?.[1]
  if (figure === undefined) throw new Error(`no figure in what Kafka's tool said: ${text.trim().slice(-300)}`)
  return Number(figure)
}
