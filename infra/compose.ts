// Kafka and PostgreSQL by docker-compose.yml, where a Docker engine runs.

import { fileURLToPath } from 'node:url'
import { InfrastructureError, run } from './serverProcess.ts'

/** Written in docker-compose.yml too, so that its broker is recognised; a test compares the two. */
export const COMPOSE_CLUSTER_ID = 'b3JkZXItcGlwZWxpbmUtMQ'

const COMPOSE_FILE = fileURLToPath(new URL('../docker-compose.yml', import.meta.url))
const DOCKER_TIMEOUT_MS = 3_000

type Say = (line: string) => void

/** Brings one service of docker-compose.yml up and returns what stops it, with its data kept. */
export type ComposeUp = (service: string, environment: Record<string, string>) => Promise<() => Promise<void>>
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
  return (service, environment) => {
    const next = last.then(() => composeUp(service, environment, say))
    last = next.catch(() => {})
    return next
  }
}

async function composeUp(
  service: string,
  environment: Record<string, string>,
  say: Say,
): Promise<() => Promise<void>> {
  const compose = (...args: string[]) =>
    run('docker', ['compose', '--file', COMPOSE_FILE, ...args], {
      environment: { ...process.env, ...environment },
    })
  say(`Starting ${service} with Docker (its image is fetched first if it is not here) ...`)
  const up = await compose('up', '--detach', '--wait', service)
  if (up.status !== 0) {
    const reason = up.stderr.trim().split('\n').at(-1) || 'it gave no reason'
    throw new InfrastructureError(
      'COMPOSE_FAILED',
      `docker compose could not start ${service} (${reason}): see "docker compose logs ${service}", or stop Docker to have it started without.`,
    )
  }
  return async () => void (await compose('stop', service))
}
