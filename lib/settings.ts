import { ConfigurationError } from './errors.ts'
import { MINOR_UNIT_DIGITS, parseDecimal } from './money.ts'

/** Settings by name, as text: empty is as good as missing. */
export type Environment = Record<string, string | undefined>

/** Reads single settings. All throw a ConfigurationError that names the setting, its value and what is allowed. */
export class Settings {
  readonly #env: Environment

  constructor(env: Environment) {
    this.#env = env
  }

  /** As it is given, without spaces around it. */
  given(name: string): string | undefined {
    return this.#env[name]?.trim() || undefined
  }

  /** With all spaces: a password may have some. */
  exact(name: string): string | undefined {
    return this.#env[name] || undefined
  }

  text(name: string, fallback: string): string {
    return this.given(name) ?? fallback
  }

  number(name: string, fallback: number, min: number, max: number, isWhole = true): number {
    const value = Number(this.text(name, String(fallback)))
    if (value >= min && value <= max && (!isWhole || Number.isInteger(value))) return value
    return this.refuse(name, `it takes a ${isWhole ? 'whole ' : ''}number from ${min} to ${max}`)
  }

  ratio(name: string, fallback: number): number {
    return this.number(name, fallback, 0, 1, false)
  }

  oneOf<Choice extends string>(name: string, fallback: Choice, choices: readonly Choice[]): Choice {
    const value = this.text(name, fallback) as Choice
    if (choices.includes(value)) return value
    return this.refuse(name, `it takes one of ${choices.join(', ')}`)
  }

  isOn(name: string): boolean {
    return this.oneOf(name, 'off', ['off', 'on']) === 'on'
  }

  matching(name: string, fallback: string, pattern: RegExp, allowed: string): string {
    const value = this.text(name, fallback)
    if (value === '' || pattern.test(value)) return value
    return this.refuse(name, allowed)
  }

  /** Separated by commas. */
  list(name: string, fallback = ''): string[] {
    const parts = this.text(name, fallback).split(',')
    return parts.map((part) => part.trim()).filter((part) => part !== '')
  }

  hosts(name: string, fallback: string): string[] {
    const hosts = this.text(name, fallback)
      .split(',')
      .map((host) => host.trim())
    if (hosts.every((host) => /^[^:\s/]+:\d{1,5}$/.test(host))) return hosts
    return this.refuse(name, 'it takes host:port, several separated by commas')
  }

  /** Refused without its value: a URL can hold a password. */
  url<Fallback>(name: string, protocols: readonly string[], fallback: Fallback): string | Fallback {
    const value = this.given(name)
    if (value === undefined) return fallback
    if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value
    throw new ConfigurationError(`${name} is not usable: it takes a URL that starts with ${protocols[0]}//`)
  }

  /** In minor units. */
  amount(name: string, fallback: string): number {
    const value = this.matching(name, fallback, /^\d+(\.\d{1,2})?$/, 'it takes an amount such as 10000.00')
    return parseDecimal(value, MINOR_UNIT_DIGITS.EUR)
  }

  refuse(name: string, allowed: string): never {
    throw new ConfigurationError(`${name}=${this.#env[name]} is not usable: ${allowed}`)
  }
}
