/**
 * The real Prometheus for a test: found on the PATH, or the Debian package unpacked into a cache below node_modules, which
 * installs nothing and needs no rights. Debian's apt serves Debian and Ubuntu; elsewhere it has to be installed.
 */
import { existsSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { freePort } from '../infra/ports.ts'
import { type Finished, run, spawnServer } from '../infra/serverProcess.ts'
import { until } from './harness.ts'

export const DEPLOY = fileURLToPath(new URL('../deploy', import.meta.url))
export const NO_PROMETHEUS =
  'no prometheus and promtool on the PATH, and none to be had by apt-get, which is asked once a day: install them (apt-get install prometheus, brew install prometheus)'
const CACHE = fileURLToPath(new URL('../node_modules/.cache/prometheus', import.meta.url))
/** Its age says when the package was last asked for in vain. */
const IN_VAIN = `${CACHE}-not-found`
const ASK_AGAIN_AFTER_MS = 24 * 3_600_000
const DOWNLOAD_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000
/** Of scraping and of the rules, for a test that waits for both. */
const INTERVAL = '1s'

export interface Programs {
  prometheus: string
  promtool: string
}

/** @returns undefined where there is neither Prometheus nor Debian's package of it, for example without a network */
export async function findPrometheus(): Promise<Programs | undefined> {
  const programs = (directory: string) => ({
    prometheus: join(directory, 'prometheus'),
    promtool: join(directory, 'promtool'),
  })
  if (await works(programs(''))) return programs('')
  const cached = programs(join(CACHE, 'usr/bin'))
  if (!existsSync(cached.promtool) && !wasInVain()) await unpackPackage()
  return (await works(cached)) ? cached : undefined
}

async function works({ prometheus, promtool }: Programs): Promise<boolean> {
  const said = await Promise.all([prometheus, promtool].map((program) => tried(program, ['--version'])))
  return said.every((finished) => finished?.status === 0)
}

/** @returns undefined when there is no such program */
function tried(program: string, args: string[], directory?: string): Promise<Finished | undefined> {
  const options = { timeoutMs: DOWNLOAD_TIMEOUT_MS, ...(directory !== undefined && { directory }) }
  return run(program, args, options).catch(() => undefined)
}

function wasInVain(): boolean {
  const asked = statSync(IN_VAIN, { throwIfNoEntry: false })
  return asked !== undefined && Date.now() - asked.mtimeMs < ASK_AGAIN_AFTER_MS
}

/** Leaves a note behind when it cannot be had, so that the next runs do not wait for that again. */
async function unpackPackage(): Promise<void> {
  await mkdir(join(CACHE, '..'), { recursive: true })
  const directory = await mkdtemp(`${CACHE}-`)
  try {
    if (await downloadPackage(directory)) await rename(join(directory, 'files'), CACHE)
    else await writeFile(IN_VAIN, '')
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/**
 * With the lists of packages that the system has, or else with some of its own: those may be missing, and only root may
 * renew them.
 */
async function downloadPackage(directory: string): Promise<boolean> {
  const lists = join(directory, 'lists')
  const archives = join(directory, 'archives')
  for (const each of [lists, archives]) await mkdir(join(each, 'partial'), { recursive: true })
  const settings = [
    ...['APT::Sandbox::User=root', `Dir::Cache::archives=${archives}`, 'Acquire::Retries=0'],
    ...['Acquire::http::Timeout=10', 'Acquire::https::Timeout=10'],
  ]
  const apt = async (command: string[], more: string[] = []) => {
    const options = [...settings, ...more].flatMap((setting) => ['-o', setting])
    return (await tried('apt-get', [...options, ...command], directory))?.status === 0
  }
  const own = [`Dir::State::lists=${lists}`, `Dir::Cache=${directory}`]
  const isHere =
    (await apt(['download', 'prometheus'])) ||
    ((await apt(['update'], own)) && (await apt(['download', 'prometheus'], own)))
  if (!isHere) return false
  const unpack = 'dpkg-deb --extract prometheus_*.deb files'
  return (await tried('sh', ['-c', unpack], directory))?.status === 0
}

/** One series of an answer: its labels, and its value now. */
export interface Sample {
  metric: Record<string, string>
  value: [seconds: number, value: string]
}

export interface Alert {
  labels: Record<string, string>
  annotations: Record<string, string>
  state: 'pending' | 'firing'
}

export interface Prometheus {
  /** Asks its HTTP API. @returns the data. @throws with what it says is wrong */
  ask<Data>(path: string, parameters?: Record<string, string>): Promise<Data>
  /** What an expression comes to now. @throws when it is none */
  query(expression: string): Promise<Sample[]>
  alerts(): Promise<Alert[]>
}

/** Starts Prometheus with the configuration of the project, but for the directory of the instances and for its intervals. */
export async function startPrometheus(
  t: TestContext,
  programs: Programs,
  instancesDir: string,
): Promise<Prometheus> {
  const directory = await mkdtemp(join(tmpdir(), 'prometheus-test-'))
  const file = join(directory, 'prometheus.yml')
  await writeFile(file, await configurationFor(instancesDir))
  const address = `127.0.0.1:${await freePort()}`
  const logFile = join(directory, 'log')
  const server = await spawnServer({
    command: programs.prometheus,
    args: [
      ...[`--config.file=${file}`, `--web.listen-address=${address}`],
      `--storage.tsdb.path=${join(directory, 'data')}`,
    ],
    ...{ logFile, pidFile: join(directory, 'pid'), stopSignal: 'SIGTERM', stopTimeoutMs: STOP_TIMEOUT_MS },
  })
  t.after(async () => {
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  })
  await until('Prometheus is ready', async () => {
    if (server.hasExited()) throw new Error(`Prometheus has ended:\n${await readFile(logFile, 'utf8')}`)
    return fetch(`http://${address}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    )
  })
  const ask: Prometheus['ask'] = async <Data>(path: string, parameters: Record<string, string> = {}) => {
    const response = await fetch(`http://${address}/api/v1/${path}?${new URLSearchParams(parameters)}`)
    const { status, data, error } = (await response.json()) as { status: string; data: Data; error?: string }
    if (status !== 'success') throw new Error(`${path} ${JSON.stringify(parameters)}: ${error}`)
    return data
  }
  return {
    ask,
    query: async (query) => (await ask<{ result: Sample[] }>('query', { query })).result,
    alerts: async () => (await ask<{ alerts: Alert[] }>('alerts')).alerts,
  }
}

async function configurationFor(instancesDir: string): Promise<string> {
  const directory = join(DEPLOY, 'prometheus')
  const { global, rule_files, scrape_configs, ...rest } = parse(
    await readFile(join(directory, 'prometheus.yml'), 'utf8'),
  )
  const [{ file_sd_configs, ...job }] = scrape_configs
  return stringify({
    ...rest,
    global: {
      ...global,
      scrape_interval: INTERVAL,
      scrape_timeout: INTERVAL,
      evaluation_interval: INTERVAL,
    },
    rule_files: rule_files.map((name: string) => join(directory, name)),
    scrape_configs: [
      {
        ...job,
        file_sd_configs: [
          { ...file_sd_configs[0], files: [join(instancesDir, '*.json')], refresh_interval: INTERVAL },
        ],
      },
    ],
  })
}
