// The jars of Kafka and its command-line tools, and the Java that runs them.

import { join } from 'node:path'
import { findJava as findJavaFor, type Java } from './java.ts'
import { type JarSet, jarsClasspath, jarsDirectory } from './mavenJars.ts'

export type { Java } from './java.ts'

/** Also in pom.xml and docker-compose.yml; a test compares the three. */
export const KAFKA_VERSION = '4.2.1'

const JARS: JarSet = { name: 'Kafka', version: KAFKA_VERSION, pom: 'infra/pom.xml', megabytes: 54 }

/** A Java class path with the broker and Kafka's own tools; fetches the jars if they are not there yet. */
export function kafkaClasspath(onProgress?: (line: string) => void): Promise<string> {
  return jarsClasspath(JARS, onProgress)
}

/** The Java of JAVA_HOME, else of the PATH. Throws JAVA_MISSING or JAVA_UNSUITABLE. */
export function findJava(javaHome?: string): Promise<Java> {
  const needs = {
    server: `Kafka ${KAFKA_VERSION}`,
    javas: 'Java 17 or newer',
    accepts: (major: number) => major >= 17,
  }
  return findJavaFor(needs, javaHome)
}

/**
 * The archive of loaded classes (CDS) that lets a JVM of this version start the broker in half the time; the first
 * broker to stop writes it.
 */
export function classArchive(java: Java): string {
  return join(jarsDirectory(JARS), `broker-java-${java.version.replaceAll(/[^\w.+-]/g, '_')}.jsa`)
}
