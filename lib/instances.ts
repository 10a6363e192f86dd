/**
 * Which processes of ours run on this machine, and where each can be asked: a file for each in one directory, in the form
 * that Prometheus reads to find its targets (file_sd_configs). An orderly end takes the file away. What was killed leaves it
 * behind, and so is missed by whoever looks, until its successor takes it away.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Instance {
  service: string
  pid: number
  /** Of its health port, 'http://127.0.0.1:9464'. */
  url: string
}

/** How Prometheus reads a file: a list of groups of targets with the labels that they share. */
type TargetGroups = [{ targets: [string]; labels: { service: string; pid: string } }]

/**
 * Says that this process can be asked at a port.
 *
 * @returns what takes that back
 */
export function registerInstance(directory: string, service: string, port: number): () => void {
  mkdirSync(directory, { recursive: true })
  // Also what was killed at this port, or it would be taken for alive.
  removeDead(directory, (other) => other.service === service || other.url === `http://127.0.0.1:${port}`)
  const groups: TargetGroups = [
    { targets: [`127.0.0.1:${port}`], labels: { service, pid: String(process.pid) } },
  ]
  const file = fileOf(directory, { service, pid: process.pid })
  // Never to be read half written; and Prometheus takes names that end in .json.
  writeFileSync(`${file}.new`, `${JSON.stringify(groups)}\n`)
  renameSync(`${file}.new`, file)
  return () => rmSync(file, { force: true })
}

/** All that have said so and not taken it back, by service and then by age; those that were killed included. */
export function readInstances(directory: string): Instance[] {
  return listFiles(directory)
    .flatMap((file) => readInstance(join(directory, file)) ?? [])
    .sort((a, b) => (a.service < b.service ? -1 : a.service > b.service ? 1 : a.pid - b.pid))
}

/** Takes away what was killed. @param isMeant of these alone */
export function removeDead(directory: string, isMeant = (_instance: Instance) => true): void {
  for (const instance of readInstances(directory)) {
    if (isMeant(instance) && !isAlive(instance.pid)) rmSync(fileOf(directory, instance), { force: true })
  }
}

function fileOf(directory: string, { service, pid }: Pick<Instance, 'service' | 'pid'>): string {
  return join(directory, `${service}-${pid}.json`)
}

function listFiles(directory: string): string[] {
  try {
    return readdirSync(directory).filter((file) => file.endsWith('.json'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** @returns undefined for what has gone since it was listed, and for what is none of ours */
function readInstance(file: string): Instance | undefined {
  try {
    const [{ targets, labels }] = JSON.parse(readFileSync(file, 'utf8')) as TargetGroups
    return { service: labels.service, pid: Number(labels.pid), url: `http://${targets[0]}` }
  } catch (error) {
    const isGone = (error as NodeJS.ErrnoException).code === 'ENOENT'
    if (isGone || error instanceof SyntaxError || error instanceof TypeError) return undefined
    throw error
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
