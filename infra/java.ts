// The Java that runs a server on the local JVM.

import { join } from 'node:path'
import { InfrastructureError, run } from './serverProcess.ts'

export interface Java {
  readonly command: string
  readonly version: string
}

/** What a server asks of the Java that runs it. */
export interface JavaNeeds {
  /** With its version, as a person would call it: 'Kafka 4.2.1'. */
  readonly server: string
  /** 'Java 17 or newer'. */
  readonly javas: string
  accepts(major: number): boolean
}

/** The Java of JAVA_HOME, else of the PATH. Throws JAVA_MISSING or JAVA_UNSUITABLE. */
export async function findJava(needs: JavaNeeds, javaHome = process.env.JAVA_HOME): Promise<Java> {
  const command = javaHome ? join(javaHome, 'bin', 'java') : 'java'
  const answer = await run(command, ['-version']).catch(() => undefined)
  const version = /version "([^"]+)"/.exec(answer?.stderr ?? '')?.[1]
  if (answer?.status !== 0 || version === undefined) {
    const where = javaHome ? `in JAVA_HOME (${javaHome})` : 'on the PATH'
    throw new InfrastructureError(
      'JAVA_MISSING',
      `${needs.server} needs ${needs.javas} and none was found ${where}: ${howToInstall('openjdk-17-jre-headless', 'openjdk@17')}, or start Docker.`,
    )
  }
  if (!needs.accepts(majorOf(version))) {
    throw new InfrastructureError(
      'JAVA_UNSUITABLE',
      `${needs.server} needs ${needs.javas} but ${command} is ${version}: ${howToInstall('openjdk-17-jre-headless', 'openjdk@17')} and set JAVA_HOME to it, or start Docker.`,
    )
  }
  return { command, version }
}

/** "1.8.0_412" is Java 8, "17.0.15" Java 17. */
function majorOf(version: string): number {
  const [first = Number.NaN, second = Number.NaN] = version.split(/[._+-]/).map(Number)
  return first === 1 ? second : first
}

/** As part of a sentence. */
export function howToInstall(debianPackage: string, homebrewFormula: string): string {
  return process.platform === 'darwin'
    ? `run "brew install ${homebrewFormula}"`
    : `run "apt-get install -y ${debianPackage}" (or your system's equivalent)`
}
