import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs'
import { join } from 'node:path'
import { type KafkaCluster, startKafkaCluster } from '../infra/kafkaCluster.ts'
import { isPortFree } from '../infra/ports.ts'
import { type RunningPostgres, startPostgres } from '../infra/postgres.ts'
import { type Config, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep, untilAborted } from './async.ts'
import { ended, startScript, stopScript } from './childProcesses.ts'
import { ConfigurationError } from './errors.ts'

export interface TrialOptions {
  /** For everything that it writes: state of the servers, and a log for each process. */
  dataDir: string
  brokers: number
  ratePerSecond: number
  /** Where the scripts are that are to be put to the test: the project's own, or others of the same names. */
  scriptOf(name: string): string
  /** Settings over the defaults. */
  settings?: Record<string, string>
  /** Takes a line at a time. */
  say(line: string): void
}

/** A process that ended though nobody had told it to. */
export interface UnaskedEnd {
  id: string
  status: number | string
}

interface Member {
  child: ChildProcess
  /** It is being killed or stopped by us. */
  isEnding: boolean
}

/**
 * Below the range that the system takes the ports of outgoing connections from: while a server is down, one of those
 * who try to reach it could else be given its port.
 */
const FIRST_PORT = 21_000
const LAST_PORT = 29_000
const RESTART_AFTER_MS = 1_000
const KILL_AT_PROBE = new URL('../tools/killAtProbe.ts', import.meta.url).pathname

/**
 * A pipeline of its own to be put to the test: Kafka, PostgreSQL, the gateway and every service as processes that can
 * be killed and started again one by one. An instance is called `<script>-<number>`.
 */
export class TrialPipeline {
  readonly unaskedEnds: UnaskedEnd[] = []
  readonly #options: TrialOptions
  readonly #environment: Record<string, string>
  readonly #members = new Map<string, Member>()
  readonly #stopping = new AbortController()
  readonly #logs = new Map<string, WriteStream>()
  readonly #postgresPort: number
  readonly gatewayUrl: string
  readonly config: Config
  readonly cluster: KafkaCluster
  #postgres: RunningPostgres

  private constructor(
    options: TrialOptions,
    cluster: KafkaCluster,
    postgres: RunningPostgres,
    gatewayPort: number,
  ) {
    this.#options = options
    this.cluster = cluster
    this.#postgres = postgres
    this.#postgresPort = postgres.port
    this.gatewayUrl = `http://127.0.0.1:${gatewayPort}`
    const replicas = Math.min(3, options.brokers)
    this.#environment = {
      KAFKA_BROKERS: cluster.addresses.join(','),
      DATABASE_URL: postgres.url,
      GATEWAY_URL: this.gatewayUrl,
      GATEWAY_PORT: String(gatewayPort),
      REPLICATION_FACTOR: String(replicas),
      MIN_INSYNC_REPLICAS: String(replicas > 2 ? 2 : 1),
      HEALTH_PORT: '0',
      API_PORT: '0',
      OUTBOX_DIR: join(options.dataDir, 'outbox'),
      // Whatever is exported for another cluster: this one is plain.
      TOPIC_PREFIX: '',
      ROUTING: 'direct',
      SEALED_TOPICS: '',
      KAFKA_TLS: 'off',
      KAFKA_SASL_MECHANISM: 'none',
      // A file that is not there: the `.env` of whoever runs this must not matter.
      ENV_FILE: join(options.dataDir, 'none.env'),
      ...options.settings,
    }
    this.config = parseConfig(this.environment)
  }

  /** Brings up the servers, the topics and the gateway. @throws InfrastructureError */
  static async start(options: TrialOptions): Promise<TrialPipeline> {
    const { dataDir, brokers, say } = options
    mkdirSync(join(dataDir, 'logs'), { recursive: true })
    const ports = await choosePorts(brokers + 2)
    const [gatewayPort, postgresPort] = ports.splice(0, 2)
    const servers = [
      startKafkaCluster({ dataDir, brokers, ports, onProgress: say }),
      startPostgres({ dataDir, port: postgresPort!, onProgress: say }),
    ] as const
    const [kafka, postgres] = await Promise.allSettled(servers)
    if (kafka.status === 'rejected' || postgres.status === 'rejected') {
      if (kafka.status === 'fulfilled') await kafka.value.stop()
      if (postgres.status === 'fulfilled') await postgres.value.stop()
      throw kafka.status === 'rejected' ? kafka.reason : (postgres as PromiseRejectedResult).reason
    }
    const pipeline = new TrialPipeline(options, kafka.value, postgres.value, gatewayPort!)
    try {
      await ensureTopics(pipeline.config, say)
    } catch (error) {
      await pipeline.stop()
      throw error
    }
    pipeline.startMember('paymentGateway-1')
    return pipeline
  }

  /** The environment that every script is started with. */
  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, ...this.#environment }
  }

  /** The process of each member and server, by name: what PostgreSQL starts for each connection is not among them. */
  get pids(): Record<string, number> {
    const members = [...this.#members].map(([id, { child }]) => [id, child.pid!] as const)
    const brokers = this.cluster.nodes.map(({ id, pid }) => [`broker-${id}`, pid] as const)
    return { ...Object.fromEntries([...members, ...brokers]), postgres: this.#postgres.pid }
  }

  isRunning(id: string): boolean {
    const member = this.#members.get(id)
    return member !== undefined && !member.isEnding
  }

  startMember(id: string): void {
    const name = id.replace(/-\d+$/, '')
    const log = this.#logOf(id)
    const child = startScript({
      script: this.#options.scriptOf(name),
      args: name === 'producer' ? ['--rate', String(this.#options.ratePerSecond)] : [],
      preload: [KILL_AT_PROBE],
      env: this.environment,
      print: (line) => void log.write(`${new Date().toISOString()} ${line}\n`),
    })
    const member = { child, isEnding: false }
    this.#members.set(id, member)
    void ended(child).then(async (status) => {
      if (this.#members.get(id) === member) this.#members.delete(id)
      if (member.isEnding) return
      this.unaskedEnds.push({ id, status })
      // Noted, and then done as whoever runs it would.
      await sleep(RESTART_AFTER_MS, this.#stopping.signal)
      if (!this.#stopping.signal.aborted && !this.#members.has(id)) this.startMember(id)
    })
  }

  /** SIGKILL, and waits until it is gone. */
  async killMember(id: string): Promise<void> {
    const { child } = this.#end(id)
    child.kill('SIGKILL')
    await ended(child)
  }

  /**
   * Has it kill itself at a moment named in lib/probes.ts.
   *
   * @returns false when that has not come within the time given; it was then killed from outside
   */
  async killMemberAt(
    id: string,
    order: { killAt: string; passes: number },
    withinMs: number,
  ): Promise<boolean> {
    const { child } = this.#end(id)
    // One that is gone does not hear it, and its end says so.
    child.send(order, () => undefined)
    const status = await untilAborted(ended(child), AbortSignal.timeout(withinMs))
    if (status === 'SIGKILL') return true
    if (status !== undefined) this.unaskedEnds.push({ id, status })
    child.kill('SIGKILL')
    await ended(child)
    return false
  }

  /** SIGTERM, and waits until it has finished what it had in hand; that it cannot is noted with the unasked ends. */
  async stopMember(id: string): Promise<void> {
    if (!this.#members.has(id)) return
    const { child } = this.#end(id)
    await stopScript(child)
    const status = await ended(child)
    // By the signal itself: it had only begun, and had nothing in hand.
    if (status !== 0 && status !== 'SIGTERM') this.unaskedEnds.push({ id, status })
  }

  /**
   * Has a process sleep (SIGSTOP) and wake up again. A shell of its own wakes it, also when we are gone by then: a
   * process that sleeps hears of nothing.
   */
  freeze(id: string, forMs: number): void {
    const pid = String(this.#members.get(id)!.child.pid)
    const script = 'kill -STOP "$0"; sleep "$1"; kill -CONT "$0"'
    spawn('/bin/sh', ['-c', script, pid, String(forMs / 1_000)], { detached: true, stdio: 'ignore' }).unref()
  }

  async killPostgres(): Promise<void> {
    process.kill(this.#postgres.pid, 'SIGKILL')
    await this.#postgres.exited
  }

  async startPostgres(): Promise<void> {
    this.#postgres = await startPostgres({ dataDir: this.#options.dataDir, port: this.#postgresPort })
  }

  /** All processes, then the servers. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    const members = [...this.#members.keys()]
    for (const { child } of this.#members.values()) child.kill('SIGCONT')
    await Promise.all(members.map((id) => this.stopMember(id)))
    await Promise.all([this.cluster.stop(), this.#postgres.stop()])
    for (const log of this.#logs.values()) log.end()
  }

  #end(id: string): Member {
    const member = this.#members.get(id)
    if (!member) throw new Error(`${id} does not run`)
    member.isEnding = true
    return member
  }

  #logOf(id: string): WriteStream {
    let log = this.#logs.get(id)
    if (!log) {
      log = createWriteStream(join(this.#options.dataDir, 'logs', `${id}.log`), { flags: 'a' })
      this.#logs.set(id, log)
    }
    return log
  }
}

async function choosePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  const first = FIRST_PORT + (process.pid % 1_000) * 8
  for (let port = first; ports.length < count; port++) {
    if (port > LAST_PORT) throw new ConfigurationError(`no ${count} free ports from ${first} to ${LAST_PORT}`)
    if (await isPortFree(port)) ports.push(port)
  }
  return ports
}
