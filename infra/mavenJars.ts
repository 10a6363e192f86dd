// The jars of a server, fetched once by Maven.

import { copyFile, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { howToInstall } from './java.ts'
import { InfrastructureError, run } from './serverProcess.ts'

const PROJECT_DIRECTORY = fileURLToPath(new URL('..', import.meta.url))

/** Shared by all data directories, so that tests with directories of their own do not fetch again. */
const PARENT_DIRECTORY = join(PROJECT_DIRECTORY, '.data')

export interface JarSet {
  /** As a person would call the server: 'Kafka'. */
  readonly name: string
  readonly version: string
  /** The list of jars, seen from the project's directory. */
  readonly pom: string
  readonly megabytes: number
}

type Say = (line: string) => void

/** Where the jars lie once they have been fetched. */
export function jarsDirectory({ name, version }: JarSet): string {
  return join(PARENT_DIRECTORY, `${name.toLowerCase()}-jars-${version}`)
}

/** A Java class path with all of them; fetches them if they are not there yet. Throws MAVEN_MISSING or MAVEN_FAILED. */
export async function jarsClasspath(jars: JarSet, onProgress: Say = () => {}): Promise<string> {
  await ensureJars(jars, onProgress)
  return join(jarsDirectory(jars), '*')
}

/**
 * Maven writes into a directory of this process, which is then renamed into place: a fetch that was cut short is
 * never mistaken for a whole one, and of two processes that fetch at once the later throws its copy away.
 */
async function ensureJars(jars: JarSet, say: Say): Promise<void> {
  if (await jarsAreCurrent(jars)) return
  const temporary = `${jarsDirectory(jars)}.${process.pid}.tmp`
  await mkdir(PARENT_DIRECTORY, { recursive: true })
  await rm(temporary, { recursive: true, force: true })
  say(`Fetching ${jars.name} ${jars.version} with Maven (${jars.megabytes} MB, once; some seconds) ...`)
  try {
    await runMaven(jars, temporary)
    // A copy of the pom says for which list of jars the directory stands.
    await copyFile(pomFile(jars), join(temporary, 'pom.xml'))
    await moveIntoPlace(jars, temporary)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

function pomFile({ pom }: JarSet): string {
  return join(PROJECT_DIRECTORY, pom)
}

async function jarsAreCurrent(jars: JarSet): Promise<boolean> {
  const [wanted, present] = await Promise.all([
    readFile(pomFile(jars), 'utf8'),
    readFile(join(jarsDirectory(jars), 'pom.xml'), 'utf8').catch(() => undefined),
  ])
  return wanted === present
}

async function runMaven(jars: JarSet, directory: string): Promise<void> {
  const server = `${jars.name} ${jars.version}`
  const args = ['-q', '-B', '-f', pomFile(jars), 'dependency:copy-dependencies', `-Djars=${directory}`]
  const maven = await run('mvn', args).catch((cause: unknown) => {
    throw new InfrastructureError(
      'MAVEN_MISSING',
      `Maven fetches ${server} and was not found on the PATH: ${howToInstall('maven', 'maven')}, or start Docker.`,
      { cause },
    )
  })
  if (maven.status !== 0) {
    const reason = /\[ERROR\] (.+)/.exec(maven.stdout)?.[1] ?? (maven.stderr.trim() || 'it gave no reason')
    throw new InfrastructureError(
      'MAVEN_FAILED',
      `Maven could not fetch ${server} (${reason}): check the network and try again, or run "mvn -f ${jars.pom} dependency:copy-dependencies" to see all of it.`,
    )
  }
}

async function moveIntoPlace(jars: JarSet, temporary: string): Promise<void> {
  const directory = jarsDirectory(jars)
  try {
    await rename(temporary, directory)
  } catch (error) {
    // Another process was first.
    if (await jarsAreCurrent(jars)) return
    if (!(await readdir(directory).catch(() => undefined))) throw error
    // Jars of an older pom.
    const outdated = `${temporary}.outdated`
    await rename(directory, outdated)
    await rename(temporary, directory)
    await rm(outdated, { recursive: true, force: true })
  }
}
