/**
 * Configuration: the environment read once and validated, the Kafka client made from it, the topics with their
 * settings, and ensureTopics(). Run the last by itself, once, before the scripts:
 *
 *   npx tsx -e "import('./kafkaConfig.ts').then(m => m.ensureTopics())"
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parse as parseDotenv } from 'dotenv'
import { Kafka, type KafkaConfig, logLevel, type SASLOptions } from 'kafkajs'
import { ConfigurationError } from './lib/errors.ts'
import { addMissingKeys, KeyRing } from './lib/keyRing.ts'
import { createLogger, kafkaLogCreator, type Logger, type LogOptions } from './lib/log.ts'
import { MINOR_UNIT_DIGITS, parseDecimal } from './lib/money.ts'
import { wantsColor } from './lib/terminal.ts'
import { reconcileTopics, type TopicReport } from './lib/topicAdmin.ts'
import {
  defineTopics,
  type LoadKeys,
  ORDER_TOPIC_NAMES,
  sealedTopics,
  type TopicTable,
} from './lib/topics.ts'

export type Environment = Record<string, string | undefined>

export interface Config {
  kafka: {
    brokers: string[]
    /** TLS and SASL, as far as the cluster asks for them. */
    security: Pick<KafkaConfig, 'ssl' | 'sasl'>
    sessionTimeoutMs: number
    commitIntervalMs: number
  }
  topicPrefix: string
  topics: TopicTable
  /** What sealed topics are sealed with and opened by. */
  keys: LoadKeys
  partitions: number
  replicationFactor: number
  minInsyncReplicas: number
  databaseUrl: string
  orders: { ratePerSecond: number; badRatio: number; limitMinor: number }
  dedupe: { maxOrders: number; maxAgeMs: number }
  payment: { gatewayUrl: string | undefined; concurrency: number; timeoutMs: number }
  gateway: {
    port: number
    latencyMs: number
    declineRatio: number
    errorRatio: number
    throttleRatio: number
    dropRatio: number
  }
  /** How long fulfilment waits for verdicts after an order was validated. */
  decisionTimeoutMs: number
  mail: { smtpUrl: string | undefined; outboxDir: string; from: string }
  /** `tokens` empty: writes are open to whoever reaches the address. */
  api: { host: string; port: number; tokens: string[]; maxBodyBytes: number; maxRequestsPerSecond: number }
  analytics: { graceMs: number; windowMs: number }
  commandCenter: { commitIntervalMs: number }
  metadataLog: {
    store: 'postgres' | 'cassandra'
    cassandra: { contactPoints: string[]; dataCenter: string; keyspace: string }
  }
  healthPort: number
  dashboardPort: number
  /** Where a trace is looked at, with `{traceId}` in it. */
  traceUrlTemplate: string | undefined
  /** Where processes say that they run; see lib/instances.ts. */
  instancesDir: string
  /** Controls for demonstrations; see lib/controls.ts. */
  demo: { controls: boolean; token: string }
  log: LogOptions
  /** `endpoint` undefined: nothing is traced. `serviceName` empty: that of the script. `headers` are secrets. */
  tracing: {
    endpoint: string | undefined
    headers: Record<string, string>
    serviceName: string
    sampler: (typeof SAMPLERS)[number]
    samplerRatio: number
  }
}

/** As OpenTelemetry names them. */
const SAMPLERS = [
  ...(['parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'] as const),
  ...(['always_on', 'always_off', 'traceidratio'] as const),
] as const

/** Where settings are looked up: an exported variable wins over the `.env` file. */
export const ENV_FILE = process.env.ENV_FILE ?? fileURLToPath(new URL('.env', import.meta.url))

/** The environment with what `.env` adds to it, as both are now. */
export function readEnvironment(file = ENV_FILE, exported: Environment = process.env): Environment {
  const fromFile = existsSync(file) ? parseDotenv(readFileSync(file)) : {}
  return { ...fromFile, ...exported }
}

/** The keys that `npm start` makes when sealed topics are asked for and there are none, for everything on this machine. */
const OWN_KEYS_FILE = fileURLToPath(new URL('.data/encryption-keys.json', import.meta.url))

/**
 * Makes keys for this machine where they are needed and none are given: one for each worker that has none.
 *
 * @returns where, if any were made
 */
export function createMissingKeys(env: Environment = readEnvironment()): string | undefined {
  const { topics } = parseConfig(env)
  const isGiven = env.ENCRYPTION_KEYS_FILE?.trim() || env.ENCRYPTION_KEY?.trim()
  const addresses = sealedTopics(topics).map(({ address }) => address)
  if (isGiven || addresses.length === 0) return undefined
  return addMissingKeys(OWN_KEYS_FILE, addresses) ? OWN_KEYS_FILE : undefined
}

let loaded: Config | undefined

/**
 * The configuration of this process, read on first use.
 *
 * @throws ConfigurationError that names the variable, its value and what is allowed
 */
export function loadConfig(): Config {
  loaded ??= parseConfig(readEnvironment())
  return loaded
}

/** @throws ConfigurationError that names the variable, its value and what is allowed */
export function parseConfig(env: Environment): Config {
  const text = (name: string, fallback: string) => env[name]?.trim() || fallback
  const refuse = (name: string, allowed: string): never => {
    throw new ConfigurationError(`${name}=${env[name]} is not usable: ${allowed}`)
  }
  const number = (name: string, fallback: number, min: number, max: number, whole = true) => {
    const value = Number(text(name, String(fallback)))
    if (!(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      refuse(name, `it takes a ${whole ? 'whole ' : ''}number from ${min} to ${max}`)
    }
    return value
  }
  const ratio = (name: string, fallback: number) => number(name, fallback, 0, 1, false)
  const oneOf = <Choice extends string>(name: string, fallback: Choice, choices: readonly Choice[]) => {
    const value = text(name, fallback) as Choice
    if (!choices.includes(value)) refuse(name, `it takes one of ${choices.join(', ')}`)
    return value
  }
  const matching = (name: string, fallback: string, pattern: RegExp, allowed: string) => {
    const value = text(name, fallback)
    if (value !== '' && !pattern.test(value)) refuse(name, allowed)
    return value
  }

  const readHosts = (name: string, fallback: string) => {
    const hosts = text(name, fallback)
      .split(',')
      .map((host) => host.trim())
    if (hosts.every((host) => /^[^:\s/]+:\d{1,5}$/.test(host))) return hosts
    return refuse(name, 'it takes host:port, several separated by commas')
  }
  const brokers = readHosts('KAFKA_BROKERS', 'localhost:9092')
  const replicationFactor = number('REPLICATION_FACTOR', 1, 1, 10)
  const minInsyncReplicas = number('MIN_INSYNC_REPLICAS', replicationFactor > 2 ? 2 : 1, 1, 10)
  if (minInsyncReplicas > replicationFactor) {
    refuse('MIN_INSYNC_REPLICAS', `it cannot be above REPLICATION_FACTOR (${replicationFactor})`)
  }
  const topicPrefix = matching(
    'TOPIC_PREFIX',
    '',
    /^[A-Za-z0-9._-]{1,50}$/,
    'it takes letters, digits and . _ -',
  )

  const isRouted = oneOf('ROUTING', 'direct', ['direct', 'command-center']) === 'command-center'
  const sealedTopics = readSealedTopics(env, ORDER_TOPIC_NAMES)
  const keys = readKeys(env)

  return {
    kafka: {
      brokers,
      security: readSecurity(env, oneOf),
      // Below 6 s a default broker refuses the group; above it a killed instance stalls its partitions longer.
      sessionTimeoutMs: number('SESSION_TIMEOUT_MS', 6_000, 1_000, 300_000),
      commitIntervalMs: number('COMMIT_INTERVAL_MS', 50, 0, 5_000),
    },
    topicPrefix,
    topics: defineTopics(topicPrefix, { isRouted, sealedTopics, keys }),
    keys,
    partitions: number('PARTITIONS', 6, 1, 1_000),
    replicationFactor,
    minInsyncReplicas,
    databaseUrl: readUrl(
      'DATABASE_URL',
      ['postgres:', 'postgresql:'],
      'postgres://orders:orders@localhost:5432/orders',
    ),
    orders: {
      ratePerSecond: readRate(env),
      badRatio: ratio('BAD_ORDER_RATIO', 0.02),
      limitMinor: readAmount('ORDER_LIMIT', '10000.00'),
    },
    dedupe: {
      maxOrders: number('DEDUPE_WINDOW_ORDERS', 20_000, 0, 10_000_000),
      maxAgeMs: number('DEDUPE_WINDOW_MINUTES', 60, 0, 10_080) * 60_000,
    },
    payment: {
      gatewayUrl: env.GATEWAY_URL?.trim() ? readUrl('GATEWAY_URL', ['http:', 'https:'], '') : undefined,
      concurrency: number('PAYMENT_CONCURRENCY', 64, 1, 1_000),
      timeoutMs: number('PAYMENT_TIMEOUT_MS', 2_000, 10, 60_000),
    },
    gateway: {
      port: number('GATEWAY_PORT', 4010, 0, 65_535),
      latencyMs: number('GATEWAY_LATENCY_MS', 20, 0, 60_000),
      declineRatio: ratio('GATEWAY_DECLINE_RATIO', 0.03),
      errorRatio: ratio('GATEWAY_ERROR_RATIO', 0),
      throttleRatio: ratio('GATEWAY_THROTTLE_RATIO', 0),
      dropRatio: ratio('GATEWAY_DROP_RATIO', 0),
    },
    decisionTimeoutMs: number('DECISION_TIMEOUT_MS', 60_000, 1_000, 86_400_000),
    mail: {
      smtpUrl: env.SMTP_URL?.trim() ? readUrl('SMTP_URL', ['smtp:', 'smtps:'], '') : undefined,
      outboxDir: text('OUTBOX_DIR', fileURLToPath(new URL('.data/outbox', import.meta.url))),
      from: text('MAIL_FROM', 'Orders <orders@example.com>'),
    },
    api: {
      host: text('API_HOST', '127.0.0.1'),
      port: number('API_PORT', 3_000, 0, 65_535),
      tokens: readTokens(env),
      maxBodyBytes: number('API_MAX_BODY_BYTES', 1_000_000, 1_000, 1_048_576),
      maxRequestsPerSecond: number('API_MAX_REQUESTS_PER_SECOND', 10_000, 0, 1_000_000),
    },
    analytics: {
      graceMs: number('ANALYTICS_GRACE_SECONDS', 60, 0, 86_400) * 1_000,
      windowMs: number('ANALYTICS_WINDOW_MINUTES', 60, 1, 1_440) * 60_000,
    },
    commandCenter: { commitIntervalMs: number('COMMAND_CENTER_COMMIT_INTERVAL_MS', 10, 0, 5_000) },
    metadataLog: {
      store: oneOf('METADATA_STORE', 'postgres', ['postgres', 'cassandra']),
      cassandra: {
        contactPoints: readHosts('CASSANDRA_CONTACT_POINTS', '127.0.0.1:9042'),
        dataCenter: text('CASSANDRA_DATA_CENTER', 'datacenter1'),
        keyspace: matching(
          'CASSANDRA_KEYSPACE',
          'order_pipeline',
          /^[a-z][a-z0-9_]{0,47}$/,
          'it takes a name in lower case',
        ),
      },
    },
    healthPort: number('HEALTH_PORT', 9_464, 0, 65_535),
    dashboardPort: number('DASHBOARD_PORT', 3_001, 0, 65_535),
    traceUrlTemplate: readTraceUrl(env),
    instancesDir: text('INSTANCES_DIR', fileURLToPath(new URL('.data/instances', import.meta.url))),
    demo: readDemo(env, oneOf),
    log: {
      level: oneOf('LOG_LEVEL', 'info', ['trace', 'debug', 'info', 'warn', 'error', 'silent']),
      format: oneOf('LOG_FORMAT', 'pretty', ['pretty', 'json']),
      color: wantsColor(process.stderr, env),
    },
    tracing: {
      endpoint: env.OTEL_EXPORTER_OTLP_ENDPOINT?.trim()
        ? readUrl('OTEL_EXPORTER_OTLP_ENDPOINT', ['http:', 'https:'], '')
        : undefined,
      headers: readHeaders(env),
      serviceName: text('OTEL_SERVICE_NAME', ''),
      sampler: oneOf('OTEL_TRACES_SAMPLER', 'parentbased_always_on', SAMPLERS),
      samplerRatio: ratio('OTEL_TRACES_SAMPLER_ARG', 1),
    },
  }

  function readUrl(name: string, protocols: string[], fallback: string): string {
    const value = text(name, fallback)
    // Never with its value: a URL can hold a password.
    if (!URL.canParse(value) || !protocols.includes(new URL(value).protocol)) {
      throw new ConfigurationError(`${name} is not usable: it takes a URL that starts with ${protocols[0]}//`)
    }
    return value
  }

  function readAmount(name: string, fallback: string): number {
    const value = matching(name, fallback, /^\d+(\.\d{1,2})?$/, 'it takes an amount such as 10000.00')
    return parseDecimal(value, MINOR_UNIT_DIGITS.EUR)
  }
}

/**
 * ORDERS_PER_SECOND alone: the one setting that the simulator reads again while it runs.
 *
 * @throws ConfigurationError
 */
export function readRate(env: Environment = readEnvironment()): number {
  const value = Number(env.ORDERS_PER_SECOND?.trim() || '10')
  if (value >= 0 && value <= 1_000_000) return value
  throw new ConfigurationError(
    `ORDERS_PER_SECOND=${env.ORDERS_PER_SECOND} is not usable: it takes a number from 0 (pause) to 1000000`,
  )
}

/** @throws ConfigurationError without the value: it is a secret */
function readTokens(env: Environment): string[] {
  const tokens = (env.API_TOKENS ?? '').split(',').map((token) => token.trim())
  const given = tokens.filter((token) => token !== '')
  if (given.every((token) => /^[A-Za-z0-9._~+/=-]{16,}$/.test(token))) return given
  throw new ConfigurationError(
    'API_TOKENS is not usable: it takes tokens of 16 or more letters, digits and . _ ~ + / = -, separated by commas',
  )
}

/** @throws ConfigurationError */
function readTraceUrl(env: Environment): string | undefined {
  const template = env.TRACE_URL_TEMPLATE?.trim()
  if (!template) return undefined
  const url = template.replaceAll('{traceId}', '0')
  if (/^https?:/.test(template) && url !== template && URL.canParse(url)) return template
  throw new ConfigurationError(
    `TRACE_URL_TEMPLATE=${template} is not usable: it takes a URL with {traceId} in it, such as http://127.0.0.1:16686/trace/{traceId}`,
  )
}

/** What every request to the trace collector carries. @throws ConfigurationError without the values: they are secrets */
function readHeaders(env: Environment): Record<string, string> {
  const pairs = (env.OTEL_EXPORTER_OTLP_HEADERS ?? '').split(',').map((pair) => pair.trim())
  const given = pairs.filter((pair) => pair !== '')
  try {
    return Object.fromEntries(
      given.map((pair) => {
        const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+) *= *(.+)$/.exec(pair)!
        return [name!, decodeURIComponent(value!)]
      }),
    )
  } catch {
    // What was wrong with it could tell what it is.
    throw new ConfigurationError(
      'OTEL_EXPORTER_OTLP_HEADERS is not usable: it takes name=value, several separated by commas, values percent-encoded',
    )
  }
}

/** @throws ConfigurationError without the token: it is a secret */
function readDemo(env: Environment, oneOf: OneOf): Config['demo'] {
  const controls = oneOf('DEMO_CONTROLS', 'off', ['off', 'on']) === 'on'
  const token = env.DEMO_TOKEN?.trim() ?? ''
  if (!controls || /^[A-Za-z0-9._~+/=-]{16,}$/.test(token)) return { controls, token }
  throw new ConfigurationError(
    'DEMO_CONTROLS=on needs DEMO_TOKEN: set it to 16 or more letters, digits and . _ ~ + / = -, such as `openssl rand -hex 16` prints',
  )
}

/** @param known the topics that can be sealed, without the prefix */
function readSealedTopics(env: Environment, known: readonly string[]): string[] {
  const names = (env.SEALED_TOPICS ?? '').split(',').map((name) => name.trim())
  const given = names.filter((name) => name !== '')
  if (given.includes('all')) return [...known]
  const unknown = given.filter((name) => !known.includes(name))
  if (unknown.length === 0) return given
  throw new ConfigurationError(
    `SEALED_TOPICS=${unknown.join(',')} is not usable: it takes all, or some of ${known.join(', ')}`,
  )
}

/** Errors are told without the keys: they are secrets. */
function readKeys(env: Environment): LoadKeys {
  const file = env.ENCRYPTION_KEYS_FILE?.trim()
  const key = env.ENCRYPTION_KEY?.trim()
  if (file && key) {
    throw new ConfigurationError(
      'ENCRYPTION_KEY and ENCRYPTION_KEYS_FILE are both set: take one of them away',
    )
  }
  let loaded: KeyRing | undefined
  return () => {
    loaded ??= load()
    return loaded
  }

  function load(): KeyRing {
    if (file) return KeyRing.fromFile(file)
    if (key) return KeyRing.fromKey(key)
    if (existsSync(OWN_KEYS_FILE)) return KeyRing.fromFile(OWN_KEYS_FILE)
    throw new ConfigurationError(
      'sealed topics need a key: set ENCRYPTION_KEY to what `openssl rand -base64 32` prints, or ENCRYPTION_KEYS_FILE',
    )
  }
}

type OneOf = <Choice extends string>(name: string, fallback: Choice, choices: readonly Choice[]) => Choice

/** TLS and SASL for a cluster that asks for them. */
function readSecurity(env: Environment, oneOf: OneOf): Config['kafka']['security'] {
  const readFile = (name: string): string | undefined => {
    const file = env[name]?.trim()
    if (!file) return undefined
    if (existsSync(file)) return readFileSync(file, 'utf8')
    throw new ConfigurationError(`${name}=${file} is not usable: there is no such file`)
  }
  const tls = oneOf('KAFKA_TLS', 'off', ['off', 'on']) === 'on'
  const given = {
    ca: readFile('KAFKA_TLS_CA_FILE'),
    cert: readFile('KAFKA_TLS_CERT_FILE'),
    key: readFile('KAFKA_TLS_KEY_FILE'),
  }
  const pems = Object.fromEntries(Object.entries(given).filter(([, pem]) => pem !== undefined))
  const ssl = tls ? { ssl: pems } : {}

  const mechanism = oneOf('KAFKA_SASL_MECHANISM', 'none', ['none', 'plain', 'scram-sha-256', 'scram-sha-512'])
  if (mechanism === 'none') return ssl
  const { KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = env
  if (!username || !password) {
    throw new ConfigurationError(
      `KAFKA_SASL_MECHANISM=${mechanism} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and one of them is empty`,
    )
  }
  // The three mechanisms have the same shape, which the type of kafkajs does not see through.
  return { ...ssl, sasl: { mechanism, username, password } as SASLOptions }
}

/**
 * A Kafka client. Each call has connections of its own: a consumer and a producer must not share one, since
 * kafkajs marks offsets of a transaction as committed in a map that all clients of an instance share, also when
 * the transaction aborts.
 *
 * @param limits for whoever has to give up sooner
 */
export function createKafka(
  config: Config,
  clientId: string,
  logger: Logger,
  limits: Pick<KafkaConfig, 'connectionTimeout' | 'requestTimeout' | 'retry'> = {},
): Kafka {
  const { brokers, security } = config.kafka
  return new Kafka({
    clientId,
    brokers,
    ...security,
    connectionTimeout: 3_000,
    requestTimeout: 15_000,
    // CONCURRENT_TRANSACTIONS is answered while the markers of the transaction before are written, which takes a
    // few milliseconds: with the default first wait of 300 ms a transaction takes that long. Given up after about
    // three seconds, when whoever called tries again in a way of its own.
    retry: { initialRetryTime: 2, maxRetryTime: 1_000, retries: 11 },
    ...limits,
    logLevel: logger.isLevelEnabled('debug') ? logLevel.INFO : logLevel.ERROR,
    logCreator: kafkaLogCreator(logger),
  })
}

/**
 * Creates the topics that are missing and reports how those that exist differ from the table; changes none of
 * them. Waits for the broker, prints what it did, and ends.
 *
 * @param print takes one line at a time
 */
export async function ensureTopics(
  config: Config = loadConfig(),
  print: (line: string) => void = console.log,
): Promise<TopicReport> {
  const logger = createLogger('topics', config.log)
  return reconcileTopics({
    kafka: createKafka(config, 'ensure-topics', logger),
    brokers: config.kafka.brokers,
    topics: config.topics,
    partitions: config.partitions,
    replicationFactor: config.replicationFactor,
    minInsyncReplicas: config.minInsyncReplicas,
    print,
  })
}
