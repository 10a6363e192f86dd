import { logLevel as kafkaLogLevel } from 'kafkajs'
import { type Logger, pino } from 'pino'
import { PinoPretty } from 'pino-pretty'

export type { Logger } from 'pino'

export interface LogOptions {
  level: string
  /** `pretty` for people, `json` for a log collector. */
  format: 'pretty' | 'json'
  color: boolean
}

/**
 * A logger that writes to standard error: standard output carries results alone.
 * Whatever could hold a secret is redacted by path.
 */
export function createLogger(name: string, { level, format, color }: LogOptions): Logger {
  const options = {
    name,
    level,
    base: { service: name },
    redact: ['*.password', '*.sasl', '*.ssl', 'databaseUrl', '*.databaseUrl', '*.authorization'],
  }
  if (format === 'json') return pino(options, pino.destination({ fd: 2, sync: true }))
  const stream = PinoPretty({
    destination: 2,
    sync: true,
    colorize: color,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'service,pid,hostname,name',
    messageFormat: '{service}  {msg}',
  })
  return pino(options, stream)
}

/**
 * kafkajs logs each retry as an error, also what is part of normal work (CONCURRENT_TRANSACTIONS while the
 * markers of the transaction before are written). All of it goes to `debug`: what a person has to know, the
 * processor says itself, once.
 */
export function kafkaLogCreator(logger: Logger) {
  return () =>
    ({ namespace, level, log }: { namespace: string; level: number; log: { message: string } }) => {
      if (level === kafkaLogLevel.NOTHING || !logger.isLevelEnabled('debug')) return
      const { message, ...details } = log
      logger.debug(details, `kafkajs ${namespace}: ${message}`)
    }
}
