// The jars of Kafka and its command-line tools, fetched once by Maven, and the Java that runs them.

import { copyFile, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InfrastructureError, run } from './serverProcess.ts'

/** Also in pom.xml and docker-compose.yml; a test compares the three. */
export const KAFKA_VERSION = '4.2.1'

const MIN_JAVA_MAJOR = 17
const PROJECT_DIRECTORY = fileURLToPath(new URL('..', import.meta.url))
const POM_FILE = fileURLToPath(new URL('pom.xml', import.meta.url))

/** Shared by all data directories, so that tests with directories of their own do not fetch again. */
const JARS_DIRECTORY = join(PROJECT_DIRECTORY, '.data', `kafka-jars-${KAFKA_VERSION}`)

type Say = (line: string) => void

/** A Java class path with the broker and Kafka's own tools; fetches the jars if they are not there yet. */
export async function kafkaClasspath(onProgress: Say = () => {}): Promise<string> {
  await ensureJars(onProgress)
  return join(JARS_DIRECTORY, '*')
}

export interface Java {
  readonly command: string
  readonly version: string
}

/** The Java of JAVA_HOME, else of the PATH. Throws JAVA_MISSING or JAVA_TOO_OLD. */
export async function findJava(javaHome = process.env.JAVA_HOME): Promise<Java> {
  const command = javaHome ? join(javaHome, 'bin', 'java') : 'java'
  const answer = await run(command, ['-version']).catch(() => undefined)
  const version = /version "([^"]+)"/.exec(answer?.stderr ?? '')?.[1]
  if (answer?.status !== 0 || version === undefined) {
    const where = javaHome ? `in JAVA_HOME (${javaHome})` : 'on the PATH'
    throw new InfrastructureError(
      'JAVA_MISSING',
      `Kafka needs Java ${MIN_JAVA_MAJOR} or newer and none was found ${where}: ${howToInstall('openjdk-17-jre-headless', 'openjdk@17')}, or start Docker.`,
    )
  }
  // "1.8.0_412" is Java 8, "17.0.15" Java 17.
  const numbers = version.split(/[._+-]/).map(Number)
  const major = numbers[0] === 1 ? numbers[1] : numbers[0]
  if (major === undefined || major < MIN_JAVA_MAJOR) {
    throw new InfrastructureError(
      'JAVA_TOO_OLD',
      `Kafka ${KAFKA_VERSION} needs Java ${MIN_JAVA_MAJOR} or newer but ${command} is ${version}: ${howToInstall('openjdk-17-jre-headless', 'openjdk@17')} and set JAVA_HOME to it, or start Docker.`,
    )
  }
  return { command, version }
}

function howToInstall(debianPackage: string, homebrewFormula: string): string {
  return process.platform === 'darwin'
    ? `run "brew install ${homebrewFormula}"`
    : `run "apt-get install -y ${debianPackage}" (or your system's equivalent)`
}

/**
 * Maven writes into a directory of this process, which is then renamed into place: a fetch that was cut short is
 * never mistaken for a whole one, and of two processes that fetch at once the later throws its copy away.
 */
async function ensureJars(say: Say): Promise<void> {
  if (await jarsAreCurrent()) return
  const parent = join(PROJECT_DIRECTORY, '.data')
  const temporary = join(parent, `kafka-jars-${KAFKA_VERSION}.${process.pid}.tmp`)
  await mkdir(parent, { recursive: true })
  await rm(temporary, { recursive: true, force: true })
  say(`Fetching Kafka ${KAFKA_VERSION} with Maven (54 MB, once; some seconds) ...`)
  try {
    await runMaven(temporary)
    // A copy of the pom says for which list of jars the directory stands.
    await copyFile(POM_FILE, join(temporary, 'pom.xml'))
    await moveIntoPlace(temporary)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function jarsAreCurrent(): Promise<boolean> {
  const [wanted, present] = await Promise.all([
    readFile(POM_FILE, 'utf8'),
    readFile(join(JARS_DIRECTORY, 'pom.xml'), 'utf8').catch(() => undefined),
  ])
  return wanted === present
}

async function runMaven(jarsDirectory: string): Promise<void> {
  const args = ['-q', '-B', '-f', POM_FILE, 'dependency:copy-dependencies', `-Djars=${jarsDirectory}`]
  const maven = await run('mvn', args).catch((cause: unknown) => {
    throw new InfrastructureError(
      'MAVEN_MISSING',
      `Maven fetches Kafka ${KAFKA_VERSION} and was not found on the PATH: ${howToInstall('maven', 'maven')}, or start Docker.`,
      { cause },
    )
  })
  if (maven.status !== 0) {
    const reason = /\[ERROR\] (.+)/.exec(maven.stdout)?.[1] ?? (maven.stderr.trim() || 'it gave no reason')
    throw new InfrastructureError(
      'MAVEN_FAILED',
      `Maven could not fetch Kafka ${KAFKA_VERSION} (${reason}): check the network and try again, or run "mvn -f infra/pom.xml dependency:copy-dependencies" to see all of it.`,
    )
  }
}

async function moveIntoPlace(temporary: string): Promise<void> {
  try {
    await rename(temporary, JARS_DIRECTORY)
  } catch (error) {
    // Another process was first.
    if (await jarsAreCurrent()) return
    if (!(await readdir(JARS_DIRECTORY).catch(() => undefined))) throw error
    // Jars of an older pom.
    const outdated = `${temporary}.outdated`
    await rename(JARS_DIRECTORY, outdated)
    await rename(temporary, JARS_DIRECTORY)
    await rm(outdated, { recursive: true, force: true })
  }
}

/**
 * The archive of loaded classes (CDS) that lets a JVM of this version start the broker in half the time; the first
 * broker to stop writes it.
 */
export function classArchive(java: Java): string {
  return join(JARS_DIRECTORY, `broker-java-${java.version.replaceAll(/[^\w.+-]/g, '_')}.jsa`)
}
