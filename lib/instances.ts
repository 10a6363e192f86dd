/**
 * Which processes of ours run on this machine, and where each can be asked: a file for each in one directory, in the form
 * that Prometheus reads to find its targets (file_sd_configs). An orderly end takes the file away. What was killed leaves it
 * behind, and so is missed by whoever looks, until its successor takes it away.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { uptime } from 'node:os'
import { join } from 'node:path'

export interface Instance {
  service: string
  pid: number
  /** Of its health port, 'http://127.0.0.1:9464'. */
  url: string
}

const TARGET = /^127\.0\.0\.1:[1-9]\d{0,4}$/
const SERVICE = /^[a-z][a-z-]{0,39}$/
const PID = /^[1-9]\d{0,9}$/

/** How Prometheus reads a file: a list of groups of targets with the labels that they share. */
type TargetGroups = [{ targets: [string]; labels: { service: string; pid: string } }]

/**
 * Says that this process can be asked at a port.
 *
 * @returns what takes that back
 */
export function registerInstance(directory: string, service: string, port: number): () => void {
  mkdirSync(directory, { recursive: true })
  const isHere = ({ url }: Instance) => url === `http://127.0.0.1:${port}`
  for (const other of readInstances(directory)) {
    // The port is ours now: whoever had it has gone, whatever has its process id today.
    if (isHere(other) || (other.service === service && isDead(directory, other))) {
      rmSync(fileOf(directory, other), { force: true })
    }
  }
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

/** Takes away what was killed. */
export function removeDead(directory: string): void {
  for (const instance of readInstances(directory)) {
    if (isDead(directory, instance)) rmSync(fileOf(directory, instance), { force: true })
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

/**
 * @returns undefined for what has gone since it was listed, and for what is none of ours: the directory is Prometheus's too,
 *   and whoever is named here is asked, and told the token of the controls
 */
function readInstance(file: string): Instance | undefined {
  try {
    const [{ targets, labels }] = JSON.parse(readFileSync(file, 'utf8')) as TargetGroups
    const { service, pid } = labels
    const url = `http://${targets[0]}`
    const isOurs = TARGET.test(targets[0]) && URL.canParse(url) && SERVICE.test(service) && PID.test(pid)
    return isOurs ? { service, pid: Number(pid), url } : undefined
  } catch {
    // It cannot be read, so it names nobody.
    return undefined
  }
}

/** Also what was there before the machine was started: its process id is somebody else's today. */
function isDead(directory: string, instance: Instance): boolean {
  const file = statSync(fileOf(directory, instance), { throwIfNoEntry: false })
  const startedMs = Date.now() - uptime() * 1_000
  return !file || file.mtimeMs < startedMs || !isAlive(instance.pid)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
