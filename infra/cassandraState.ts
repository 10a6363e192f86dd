// What Cassandra keeps in a data directory, its settings, and the flags of its JVM.

import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { LOOPBACK } from './ports.ts'
import { findRunning, type RunningServer } from './serverProcess.ts'

/**
 * Settings that the Compose file repeats; a test compares the two. They are given as system properties, which win over
 * the configuration file: that of the image says otherwise and cannot be changed in part.
 */
export const CASSANDRA_SETTINGS: Readonly<Record<string, string>> = {
  // A write is acknowledged when it is on disk. By default it is up to 10 s before, and a server that is killed forgets
  // the last tenth of a second.
  commitlog_sync: 'batch',
  commitlog_sync_period: '0ms',
}

export const CASSANDRA_HEAP = '512M'

export interface CassandraFiles {
  readonly state: string
  readonly configuration: string
  readonly log: string
  readonly pid: string
}

export function cassandraFiles(dataDir: string): CassandraFiles {
  const directory = resolve(dataDir)
  return {
    state: join(directory, 'cassandra'),
    configuration: join(directory, 'cassandra.yaml'),
    log: join(directory, 'cassandra.log'),
    pid: join(directory, 'cassandra.pid'),
  }
}

/** What a reset removes. */
export function cassandraStatePaths(dataDir: string): string[] {
  const { state, configuration, log, pid } = cassandraFiles(dataDir)
  return [state, configuration, log, `${log}.old`, pid]
}

/** The server that runs on this data directory, if one does. */
export function findRunningCassandra(dataDir: string): Promise<RunningServer | undefined> {
  const { pid, state } = cassandraFiles(dataDir)
  return findRunning(pid, state)
}

/** One node, loopback only. JSON is YAML. */
export function cassandraConfiguration(files: CassandraFiles, port: number, storagePort: number): string {
  const configuration = {
    cluster_name: 'order-pipeline',
    partitioner: 'Murmur3Partitioner',
    num_tokens: 1,
    // Its one data center is called datacenter1.
    endpoint_snitch: 'SimpleSnitch',
    listen_address: LOOPBACK,
    storage_port: storagePort,
    rpc_address: LOOPBACK,
    native_transport_port: port,
    seed_provider: [
      { class_name: 'org.apache.cassandra.locator.SimpleSeedProvider', parameters: [{ seeds: LOOPBACK }] },
    ],
    data_file_directories: [join(files.state, 'data')],
    commitlog_directory: join(files.state, 'commitlog'),
    hints_directory: join(files.state, 'hints'),
    saved_caches_directory: join(files.state, 'saved_caches'),
    cdc_raw_directory: join(files.state, 'cdc_raw'),
  }
  return `${JSON.stringify(configuration, undefined, 2)}\n`
}

/** `-D` flags for the settings above. */
export function settingFlags(): string[] {
  const settings = Object.entries(CASSANDRA_SETTINGS).map(
    ([name, value]) => `-Dcassandra.settings.${name}=${value}`,
  )
  return ['-Dcassandra.config.allow_system_properties=true', ...settings]
}

const LOGGING_FILE = fileURLToPath(new URL('cassandra/logback.xml', import.meta.url))

/** Packages of the JDK that Cassandra uses from within. */
const EXPORTS = [
  'java.base/java.lang.ref',
  'java.base/jdk.internal.misc',
  'java.management.rmi/com.sun.jmx.remote.internal.rmi',
  'java.rmi/sun.rmi.registry',
  'java.rmi/sun.rmi.server',
  'java.sql/java.sql',
  'jdk.unsupported/sun.misc',
]
const OPENS = [
  'java.base/java.io',
  'java.base/java.lang',
  'java.base/java.lang.module',
  'java.base/java.lang.reflect',
  'java.base/java.util',
  'java.base/jdk.internal.loader',
  'java.base/jdk.internal.math',
  'java.base/jdk.internal.module',
  'java.base/jdk.internal.ref',
  'java.base/jdk.internal.reflect',
  'java.base/jdk.internal.util.jar',
  'java.base/sun.nio.ch',
  'jdk.management/com.sun.management.internal',
]

export function javaFlags(files: CassandraFiles): string[] {
  return [
    '-Xms128M',
    `-Xmx${CASSANDRA_HEAP}`,
    '-XX:+UseG1GC',
    // The optimising compiler would take most of the first minute.
    '-XX:TieredStopAtLevel=1',
    '-XX:+ExitOnOutOfMemoryError',
    ...EXPORTS.map((name) => `--add-exports=${name}=ALL-UNNAMED`),
    ...OPENS.map((name) => `--add-opens=${name}=ALL-UNNAMED`),
    '-Djdk.attach.allowAttachSelf=true',
    '-Dio.netty.tryReflectionSetAccessible=true',
    '-Djava.net.preferIPv4Stack=true',
    '-Djava.awt.headless=true',
    `-Dlogback.configurationFile=${LOGGING_FILE}`,
    `-Dcassandra.config=${pathToFileURL(files.configuration).href}`,
    `-Dcassandra.storagedir=${files.state}`,
    // There are no other nodes to hear from.
    '-Dcassandra.ring_delay_ms=0',
    '-Dcassandra.skip_wait_for_gossip_to_settle=0',
    ...settingFlags(),
  ]
}
