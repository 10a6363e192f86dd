// What becomes of servers that end without having been told to.

import type { KafkaCluster, KafkaNode } from './kafkaCluster.ts'
import { type Exit, InfrastructureError } from './serverProcess.ts'

interface Server {
  readonly exited: Promise<Exit>
  readonly logFile: string
}

/** Resolves with a sentence when the server ends without having been told to; else never. */
export async function unexpectedEnd(name: string, { exited, logFile }: Server): Promise<string> {
  const exit = await exited
  return exit.expected ? new Promise<never>(() => {}) : describeEnd(name, logFile, exit)
}

/**
 * Starts one of several brokers again whenever it ends; one that is alone is not, since nothing goes on without it.
 * Resolves with a sentence when Kafka has ended for good; else never.
 */
export function keepKafkaRunning({ nodes }: KafkaCluster, say: (line: string) => void): Promise<string> {
  const ends =
    nodes.length === 1
      ? nodes.map((node) => unexpectedEnd('Kafka', node))
      : nodes.map((node) => keepRunning(node, say))
  return Promise.race(ends)
}

async function keepRunning(node: KafkaNode, say: (line: string) => void): Promise<string> {
  for (;;) {
    say(`${await unexpectedEnd(`Broker ${node.id}`, node)} Starting it again ...`)
    try {
      await node.start()
    } catch (error) {
      if (error instanceof InfrastructureError) return error.message
      throw error
    }
    say(`Broker ${node.id} is back as process ${node.pid}.`)
  }
}

function describeEnd(name: string, logFile: string, exit: Exit): string {
  return `${name} ended unexpectedly (${exit.signal ?? `status ${exit.code}`}): see ${logFile}.`
}
