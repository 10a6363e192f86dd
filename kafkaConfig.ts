/**
 * Configuration: the environment read once and validated, the Kafka client made from it, the topics with their
 * settings, and ensureTopics(). Run the last by itself, once, before the scripts:
 *
 *   npx tsx -e "import('./kafkaConfig.ts').then(m => m.ensureTopics())"
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parse as parseDotenv } from 'dotenv'
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs'
import { ConfigurationError } from './lib/errors.ts'
import { installRecordBatches } from './lib/kafkajsRecordBatches.ts'
import { addMissingKeys } from './lib/keyRing.ts'
import { createLogger, kafkaLogCreator, type Logger, type LogOptions } from './lib/log.ts'
import { readDemo, readKeys, readSecurity, readTokens, readTraceHeaders } from './lib/secretSettings.ts'
import { type Environment, Settings } from './lib/settings.ts'
import { wantsColor } from './lib/terminal.ts'
import { reconcileTopics, type TopicReport } from './lib/topicAdmin.ts'
import {
  defineTopics,
  type LoadKeys,
  ORDER_TOPIC_NAMES,
  sealedTopics,
  type TopicTable,
} from './lib/topics.ts'

export type { Environment } from './lib/settings.ts'

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
  const settings = new Settings(env)
  const brokers = settings.hosts('KAFKA_BROKERS', 'localhost:9092')
  const replicationFactor = settings.number('REPLICATION_FACTOR', 1, 1, 10)
  const minInsyncReplicas = settings.number('MIN_INSYNC_REPLICAS', replicationFactor > 2 ? 2 : 1, 1, 10)
  if (minInsyncReplicas > replicationFactor) {
    settings.refuse('MIN_INSYNC_REPLICAS', `it cannot be above REPLICATION_FACTOR (${replicationFactor})`)
  }
  const topicPrefix = settings.matching(
    'TOPIC_PREFIX',
    '',
    /^[A-Za-z0-9._-]{1,50}$/,
    'it takes letters, digits and . _ -',
  )

  const isRouted = settings.oneOf('ROUTING', 'direct', ['direct', 'command-center']) === 'command-center'
  const sealedTopics = readSealedTopics(settings, ORDER_TOPIC_NAMES)
  const keys = readKeys(settings, OWN_KEYS_FILE)

  return {
    kafka: {
      brokers,
      security: readSecurity(settings),
      // Below 6 s a default broker refuses the group; above it a killed instance stalls its partitions longer.
      sessionTimeoutMs: settings.number('SESSION_TIMEOUT_MS', 6_000, 1_000, 300_000),
      commitIntervalMs: settings.number('COMMIT_INTERVAL_MS', 50, 0, 5_000),
    },
    topicPrefix,
    topics: defineTopics(topicPrefix, { isRouted, sealedTopics, keys }),
    keys,
    partitions: settings.number('PARTITIONS', 6, 1, 1_000),
    replicationFactor,
    minInsyncReplicas,
    databaseUrl: settings.url(
      'DATABASE_URL',
      ['postgres:', 'postgresql:'],
      'postgres://orders:orders@localhost:5432/orders',
    ),
    orders: {
      ratePerSecond: readRate(env),
      badRatio: settings.ratio('BAD_ORDER_RATIO', 0.02),
      limitMinor: settings.amount('ORDER_LIMIT', '10000.00'),
    },
    dedupe: {
      maxOrders: settings.number('DEDUPE_WINDOW_ORDERS', 20_000, 0, 10_000_000),
      maxAgeMs: settings.number('DEDUPE_WINDOW_MINUTES', 60, 0, 10_080) * 60_000,
    },
    payment: {
      gatewayUrl: settings.url('GATEWAY_URL', ['http:', 'https:'], undefined),
      concurrency: settings.number('PAYMENT_CONCURRENCY', 64, 1, 1_000),
      timeoutMs: settings.number('PAYMENT_TIMEOUT_MS', 2_000, 10, 60_000),
    },
    gateway: {
      port: settings.number('GATEWAY_PORT', 4010, 0, 65_535),
      latencyMs: settings.number('GATEWAY_LATENCY_MS', 20, 0, 60_000),
      declineRatio: settings.ratio('GATEWAY_DECLINE_RATIO', 0.03),
      errorRatio: settings.ratio('GATEWAY_ERROR_RATIO', 0),
      throttleRatio: settings.ratio('GATEWAY_THROTTLE_RATIO', 0),
      dropRatio: settings.ratio('GATEWAY_DROP_RATIO', 0),
    },
    decisionTimeoutMs: settings.number('DECISION_TIMEOUT_MS', 60_000, 1_000, 86_400_000),
    mail: {
      smtpUrl: settings.url('SMTP_URL', ['smtp:', 'smtps:'], undefined),
      outboxDir: settings.text('OUTBOX_DIR', fileURLToPath(new URL('.data/outbox', import.meta.url))),
      from: settings.text('MAIL_FROM', 'Orders <orders@example.com>'),
    },
    api: {
      host: settings.text('API_HOST', '127.0.0.1'),
      port: settings.number('API_PORT', 3_000, 0, 65_535),
      tokens: readTokens(settings),
      maxBodyBytes: settings.number('API_MAX_BODY_BYTES', 1_000_000, 1_000, 1_048_576),
      maxRequestsPerSecond: settings.number('API_MAX_REQUESTS_PER_SECOND', 10_000, 0, 1_000_000),
    },
    analytics: {
      graceMs: settings.number('ANALYTICS_GRACE_SECONDS', 60, 0, 86_400) * 1_000,
      windowMs: settings.number('ANALYTICS_WINDOW_MINUTES', 60, 1, 1_440) * 60_000,
    },
    commandCenter: { commitIntervalMs: settings.number('COMMAND_CENTER_COMMIT_INTERVAL_MS', 10, 0, 5_000) },
    metadataLog: {
      store: settings.oneOf('METADATA_STORE', 'postgres', ['postgres', 'cassandra']),
      cassandra: {
        contactPoints: settings.hosts('CASSANDRA_CONTACT_POINTS', '127.0.0.1:9042'),
        dataCenter: settings.text('CASSANDRA_DATA_CENTER', 'datacenter1'),
        keyspace: settings.matching(
          'CASSANDRA_KEYSPACE',
          'order_pipeline',
          /^[a-z][a-z0-9_]{0,47}$/,
          'it takes a name in lower case',
        ),
      },
    },
    healthPort: settings.number('HEALTH_PORT', 9_464, 0, 65_535),
    dashboardPort: settings.number('DASHBOARD_PORT', 3_001, 0, 65_535),
    traceUrlTemplate: readTraceUrl(settings),
    instancesDir: settings.text('INSTANCES_DIR', fileURLToPath(new URL('.data/instances', import.meta.url))),
    demo: readDemo(settings),
    log: {
      level: settings.oneOf('LOG_LEVEL', 'info', ['trace', 'debug', 'info', 'warn', 'error', 'silent']),
      format: settings.oneOf('LOG_FORMAT', 'pretty', ['pretty', 'json']),
      color: wantsColor(process.stderr, env),
    },
    tracing: {
      endpoint: settings.url('OTEL_EXPORTER_OTLP_ENDPOINT', ['http:', 'https:'], undefined),
      headers: readTraceHeaders(settings),
      serviceName: settings.text('OTEL_SERVICE_NAME', ''),
      sampler: settings.oneOf('OTEL_TRACES_SAMPLER', 'parentbased_always_on', SAMPLERS),
      samplerRatio: settings.ratio('OTEL_TRACES_SAMPLER_ARG', 1),
    },
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

/** @throws ConfigurationError */
function readTraceUrl(settings: Settings): string | undefined {
  const template = settings.given('TRACE_URL_TEMPLATE')
  if (template === undefined) return undefined
  const url = template.replaceAll('{traceId}', '0')
  if (/^https?:/.test(template) && url !== template && URL.canParse(url)) return template
  return settings.refuse(
    'TRACE_URL_TEMPLATE',
    'it takes a URL with {traceId} in it, such as http://127.0.0.1:16686/trace/{traceId}',
  )
}

/** @param known the topics that can be sealed, without the prefix */
function readSealedTopics(settings: Settings, known: readonly string[]): string[] {
  const given = settings.list('SEALED_TOPICS')
  if (given.includes('all')) return [...known]
  const unknown = given.filter((name) => !known.includes(name))
  if (unknown.length === 0) return given
  throw new ConfigurationError(
    `SEALED_TOPICS=${unknown.join(',')} is not usable: it takes all, or some of ${known.join(', ')}`,
  )
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
  installRecordBatches()
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
