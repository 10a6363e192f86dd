/**
 * What the parts of the page share: the latest snapshot goes to all of them, once a second and only while somebody can
 * see it.
 *
 * @import { DashboardHistory, DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { Series } from './series.js'

export class Page {
  series = new Series()
  /** @type {DashboardSnapshot | undefined} */
  latest = undefined
  /** @type {((snapshot: DashboardSnapshot) => void)[]} */
  #listeners = []

  constructor() {
    document.addEventListener('visibilitychange', () => this.#tell())
  }

  /** @param {(snapshot: DashboardSnapshot) => void} listener called with each snapshot from now on */
  onSnapshot(listener) {
    this.#listeners.push(listener)
  }

  /** Brings a section into sight, and the keyboard to its heading. @param {HTMLElement} section */
  show(section) {
    section.hidden = false
    section.scrollIntoView({ block: 'start' })
    section.querySelector('h2')?.focus({ preventScroll: true })
  }

  /** What the server knows takes the place of what was drawn. @param {DashboardHistory} history */
  takeHistory({ points }) {
    this.series.reset(points)
  }

  /** @param {DashboardSnapshot} snapshot */
  takeSnapshot(snapshot) {
    this.series.add(snapshot)
    this.latest = snapshot
    this.#tell()
  }

  #tell() {
    if (document.hidden || !this.latest) return
    for (const listener of this.#listeners) listener(this.latest)
  }
}
