/**
 * The log of faults, newest first. A screen reader hears of new ones, several in one sentence and not more often than
 * it can be listened to.
 *
 * @import { DashboardFault, DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { element, find, icon, keepChildren, setText } from './dom.js'
import { timeElement } from './formats.js'
import { titleOf } from './stages.js'

const MAX_SHOWN = 50
const SAID_EVERY_MS = 8_000

/** Each kind in words, with the shape that stands for it. @type {Record<DashboardFault['kind'], { words: string, shape: string, isGood: boolean }>} */
const KINDS = {
  'instance-gone': { words: 'gone', shape: 'gone', isGood: false },
  'instance-back': { words: 'back', shape: 'running', isGood: true },
  'instance-silent': { words: 'silent', shape: 'silent', isGood: false },
  'instance-answers': { words: 'answers again', shape: 'running', isGood: true },
  rebalance: { words: 'rebalance', shape: 'starting', isGood: true },
  'circuit-open': { words: 'circuit open', shape: 'behind', isGood: false },
  'circuit-closed': { words: 'circuit closed', shape: 'running', isGood: true },
  'dead-letters': { words: 'dead letters', shape: 'behind', isGood: false },
  paused: { words: 'paused', shape: 'paused', isGood: false },
  resumed: { words: 'resumed', shape: 'running', isGood: true },
  unavailable: { words: 'unavailable', shape: 'gone', isGood: false },
  available: { words: 'available', shape: 'running', isGood: true },
}

export class FaultLog {
  #section
  /** @type {string | undefined} */
  #serverId
  #heardId = -1
  #saidAtMs = 0

  /** @param {HTMLElement} section */
  constructor(section) {
    this.#section = section
  }

  /** @param {DashboardSnapshot} snapshot */
  show({ serverId, faults }) {
    find(this.#section, '.empty').hidden = faults.length > 0
    find(this.#section, '.scrolling').hidden = faults.length === 0
    keepChildren(find(this.#section, 'ol'), faults.slice(0, MAX_SHOWN), {
      // Another server counts anew.
      key: ({ id }) => `${serverId} ${id}`,
      create: createFault,
      update: () => undefined,
    })
    this.#announce(serverId, faults)
  }

  /** @param {string} serverId @param {readonly DashboardFault[]} faults */
  #announce(serverId, faults) {
    const newest = faults[0]?.id ?? -1
    if (serverId !== this.#serverId) {
      this.#serverId = serverId
      // What happened before somebody looked is no news.
      this.#heardId = newest
    }
    if (newest <= this.#heardId || Date.now() - this.#saidAtMs < SAID_EVERY_MS) return
    const fresh = faults.filter(({ id }) => id > this.#heardId)
    const said = fresh
      .slice(0, 3)
      .map(({ service, kind }) => `${titleOf(service)}: ${KINDS[kind]?.words ?? kind}`)
    const more = fresh.length > said.length ? `, and ${fresh.length - said.length} more` : ''
    setText(find(this.#section, '[aria-live]'), `${said.join(', ')}${more}`)
    this.#heardId = newest
    this.#saidAtMs = Date.now()
  }
}

/** @param {DashboardFault} fault */
function createFault({ atMs, kind, service, text }) {
  const { words, shape, isGood } = KINDS[kind] ?? { words: kind, shape: 'behind', isGood: false }
  return element(
    'li',
    { class: isGood ? 'fault is-good' : 'fault', 'data-kind': kind, 'data-service': service },
    timeElement(atMs),
    icon(shape),
    element('strong', {}, `${titleOf(service)}: ${words}`),
    element('span', { class: 'fault-text' }, text),
  )
}
