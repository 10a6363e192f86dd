/** Settings that are secrets, or lead to them: what is wrong with one is told without its value. */
import { existsSync, readFileSync } from 'node:fs'
import type { KafkaConfig, SASLOptions } from 'kafkajs'
import { ConfigurationError } from './errors.ts'
import { KeyRing } from './keyRing.ts'
import type { Settings } from './settings.ts'
import type { LoadKeys } from './topics.ts'

const TOKEN = /^[A-Za-z0-9._~+/=-]{16,}$/

/** TLS and SASL for a cluster that asks for them. @throws ConfigurationError */
export function readSecurity(settings: Settings): Pick<KafkaConfig, 'ssl' | 'sasl'> {
  const readFile = (name: string): string | undefined => {
    const file = settings.given(name)
    if (file === undefined) return undefined
    if (existsSync(file)) return readFileSync(file, 'utf8')
    return settings.refuse(name, 'there is no such file')
  }
  const isTls = settings.isOn('KAFKA_TLS')
  const given = {
    ca: readFile('KAFKA_TLS_CA_FILE'),
    cert: readFile('KAFKA_TLS_CERT_FILE'),
    key: readFile('KAFKA_TLS_KEY_FILE'),
  }
  const pems = Object.fromEntries(Object.entries(given).filter(([, pem]) => pem !== undefined))
  const ssl = isTls ? { ssl: pems } : {}

  const mechanisms = ['none', 'plain', 'scram-sha-256', 'scram-sha-512'] as const
  const mechanism = settings.oneOf('KAFKA_SASL_MECHANISM', 'none', mechanisms)
  if (mechanism === 'none') return ssl
  const username = settings.exact('KAFKA_SASL_USERNAME')
  const password = settings.exact('KAFKA_SASL_PASSWORD')
  if (!username || !password) {
    throw new ConfigurationError(
      `KAFKA_SASL_MECHANISM=${mechanism} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and one of them is empty`,
    )
  }
  // The three mechanisms have the same shape, which the type of kafkajs does not see through.
  return { ...ssl, sasl: { mechanism, username, password } as SASLOptions }
}

/** @param ownFile the keys of this machine, for when none are given */
export function readKeys(settings: Settings, ownFile: string): LoadKeys {
  const file = settings.given('ENCRYPTION_KEYS_FILE')
  const key = settings.given('ENCRYPTION_KEY')
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
    if (existsSync(ownFile)) return KeyRing.fromFile(ownFile)
    throw new ConfigurationError(
      'sealed topics need a key: set ENCRYPTION_KEY to what `openssl rand -base64 32` prints, or ENCRYPTION_KEYS_FILE',
    )
  }
}

/** Of those who may write through the API. @throws ConfigurationError */
export function readTokens(settings: Settings): string[] {
  const tokens = settings.list('API_TOKENS')
  if (tokens.every((token) => TOKEN.test(token))) return tokens
  throw new ConfigurationError(
    'API_TOKENS is not usable: it takes tokens of 16 or more letters, digits and . _ ~ + / = -, separated by commas',
  )
}

/** The controls of the dashboard, and who may use them. @throws ConfigurationError */
export function readDemo(settings: Settings): { controls: boolean; token: string } {
  const controls = settings.isOn('DEMO_CONTROLS')
  const token = settings.text('DEMO_TOKEN', '')
  if (!controls || TOKEN.test(token)) return { controls, token }
  throw new ConfigurationError(
    'DEMO_CONTROLS=on needs DEMO_TOKEN: set it to 16 or more letters, digits and . _ ~ + / = -, such as `openssl rand -hex 16` prints',
  )
}

/** What every request to the trace collector carries. @throws ConfigurationError */
export function readTraceHeaders(settings: Settings): Record<string, string> {
  try {
    return Object.fromEntries(
      settings.list('OTEL_EXPORTER_OTLP_HEADERS').map((pair) => {
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
