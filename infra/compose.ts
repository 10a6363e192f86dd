// Kafka and PostgreSQL by docker-compose.yml, where a Docker engine runs.

import { fileURLToPath } from 'node:url'
import { InfrastructureError, run } from './serverProcess.ts'

/**
 * The clusters of docker-compose.yml, of one broker and of three, and what they are called there: by its id one is
 * recognised, by their ports its brokers are told apart. A test compares the two files.
 */
export const COMPOSE_CLUSTERS: readonly ComposeCluster[] = [
  { clusterId: 'b3JkZXItcGlwZWxpbmUtMQ', services: ['kafka'], portVariables: ['KAFKA_PORT'] },
  {
    clusterId: 'b3JkZXItcGlwZWxpbmUtMw',
    services: ['kafka-1', 'kafka-2', 'kafka-3'],
    portVariables: ['KAFKA_1_PORT', 'KAFKA_2_PORT', 'KAFKA_3_PORT'],
  },
]

interface ComposeCluster {
  readonly clusterId: string
  /** One for each broker. */
  readonly services: string[]
  readonly portVariables: string[]
}

const COMPOSE_FILE = fileURLToPath(new URL('../docker-compose.yml', import.meta.url))
const DOCKER_TIMEOUT_MS = 3_000

type Say = (line: string) => void

/** Brings services of docker-compose.yml up and returns what stops them, with their data kept. */
export type ComposeUp = (
  services: readonly string[],
  environment: Record<string, string>,
) => Promise<() => Promise<void>>
export type AskDocker = () => Promise<ComposeUp | undefined>

/** What brings services up if a Docker engine answers and has Compose. An engine that hangs is as good as none. */
export async function findDocker(say: Say): Promise<ComposeUp | undefined> {
  const engine = await run('docker', ['info'], { timeoutMs: DOCKER_TIMEOUT_MS }).catch(() => undefined)
  if (engine?.status !== 0) return undefined
  const compose = await run('docker', ['compose', 'version'], { timeoutMs: DOCKER_TIMEOUT_MS }).catch(
    () => undefined,
  )
  if (compose?.status !== 0) {
    say('Docker runs but has no Compose plugin, so Kafka and PostgreSQL start without Docker.')
    return undefined
  }
  // One after the other: two at once would both make the network that the services share, and one would fail.
  let last: Promise<unknown> = Promise.resolve()
  return (services, environment) => {
    const next = last.then(() => composeUp(services, environment, say))
    last = next.catch(() => {})
    return next
  }
}

async function composeUp(
  services: readonly string[],
  environment: Record<string, string>,
  say: Say,
): Promise<() => Promise<void>> {
  const compose = (...args: string[]) =>
    run('docker', ['compose', '--file', COMPOSE_FILE, ...args], {
      environment: { ...process.env, ...environment },
    })
  say(`Starting ${services.join(', ')} with Docker (the image is fetched first if it is not here) ...`)
  const up = await compose('up', '--detach', '--wait', ...services)
  if (up.status !== 0) {
    const reason = up.stderr.trim().split('\n').at(-1) || 'it gave no reason'
    throw new InfrastructureError(
      'COMPOSE_FAILED',
      `docker compose could not start ${services.join(', ')} (${reason}): see "docker compose logs ${services.join(' ')}", or stop Docker to have it started without.`,
    )
  }
  return async () => void (await compose('stop', ...services))
}
