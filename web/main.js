/** The dashboard: connects the server's stream with the parts of the page. */
import './locale.js'
import { Charts } from './charts.js'
import { keepConnected } from './connection.js'
import { Controls } from './controls.js'
import { find, icon, setAttribute, setText } from './dom.js'
import { FaultLog } from './faults.js'
import { formatCount, timeElement } from './formats.js'
import { showGroups } from './groups.js'
import { startOrderWay } from './orderWay.js'
import { Page } from './page.js'
import { Picture } from './picture.js'
import { startReplay } from './replay.js'
import { showEnds, showMinutes, showProducts } from './tables.js'
import { startThemeButton } from './theme.js'
import { showTotals } from './totals.js'

/** @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts' */

export const page = new Page()

const section = (/** @type {string} */ id) => find(document, `#${id}`)
const picture = new Picture(section('pipeline'))
const charts = new Charts(find(section('charts'), '.chart-grid'))
const faults = new FaultLog(section('faults'))
const controls = new Controls(section('controls'))

page.onSnapshot((snapshot) => {
  showTotals(section('totals'), snapshot)
  picture.show(snapshot)
  charts.show(page.series)
  faults.show(snapshot)
  controls.show(snapshot)
  showEnds(section('ends'), snapshot)
  showProducts(section('products'), snapshot)
  showMinutes(section('minutes'), snapshot)
  showGroups(section('groups'), snapshot)
  showCoverage(snapshot)
})
startOrderWay(section('order-way'), page)
startReplay(section('replay'), page)
// Not every browser lets the keyboard into what scrolls.
for (const box of document.querySelectorAll('.scrolling')) box.setAttribute('tabindex', '0')
startThemeButton(section('theme'))
keepConnected('events', {
  onHistory: (history) => page.takeHistory(history),
  onSnapshot: (snapshot) => page.takeSnapshot(snapshot),
  onState: showConnection,
})

/** Another instance of analytics has the other partitions. @param {DashboardSnapshot} snapshot */
function showCoverage({ partitions }) {
  const { shown, of } = partitions
  const isWhole = of !== undefined && shown >= of
  const said = `shows the orders of ${formatCount(shown)} of ${of ?? '?'} partitions: another analytics has the others`
  setText(section('coverage'), isWhole ? '' : said)
}

/** So often in vain is no restart. */
const MANY_FAILURES = 5

/** @param {number | undefined} lostAtMs @param {number} failures */
function showConnection(lostAtMs, failures) {
  const box = section('connection')
  const isLasting = failures >= MANY_FAILURES
  const state = lostAtMs === undefined ? 'connected' : isLasting ? 'lost' : 'reconnecting'
  document.body.classList.toggle('is-stale', lostAtMs !== undefined)
  // Since when does not change with each try.
  if (box.dataset.state === state) return
  setAttribute(box, 'data-state', state)
  if (lostAtMs === undefined) box.replaceChildren(icon('running'), 'live')
  else {
    const advice = isLasting ? '. Does analytics run? If it does, close other tabs of this page.' : ''
    box.replaceChildren(icon('behind'), 'reconnecting, since ', timeElement(lostAtMs), advice)
  }
}
