/**
 * Where each stage stands in the picture, and what leads to what. A consumer group that this page has never heard of is
 * a judge: those are what is added.
 *
 * @import { DashboardStage } from '../lib/dashboardSnapshot.ts'
 */

/** @typedef {'sources' | 'check' | 'judges' | 'decision' | 'after' | 'routing'} Tier */
/** @typedef {{ from: string, to: string, kind: 'topic' | 'settle' | 'http' }} Edge */

/** @type {Record<Tier, string>} from left to right; routing beneath all of them */
export const TIERS = {
  sources: 'Orders come in',
  check: 'Checked',
  judges: 'Judged, side by side',
  decision: 'Decided',
  after: 'Shown, counted, mailed',
  routing: 'Every hop is routed',
}

/** In the order in which they stand in their tier; `counts` is what their rate is of, where it is not records. @type {Record<string, { title: string, tier: Tier, counts?: string }>} */
const PLACES = {
  producer: { title: 'Producer', tier: 'sources', counts: 'orders' },
  api: { title: 'API', tier: 'sources', counts: 'calls' },
  validator: { title: 'Validator', tier: 'check' },
  pricing: { title: 'Pricing', tier: 'judges' },
  fraud: { title: 'Fraud', tier: 'judges' },
  inventory: { title: 'Inventory', tier: 'judges' },
  payment: { title: 'Payment', tier: 'judges' },
  gateway: { title: 'Gateway', tier: 'judges', counts: 'calls' },
  fulfilment: { title: 'Fulfilment', tier: 'decision' },
  'order-view': { title: 'Order view', tier: 'after' },
  analytics: { title: 'Analytics', tier: 'after' },
  mail: { title: 'Mail', tier: 'after' },
  'command-center': { title: 'Command Center', tier: 'routing' },
  'metadata-log': { title: 'Metadata log', tier: 'routing' },
}
const ORDER = Object.keys(PLACES)

/** @param {string} name */
export function titleOf(name) {
  return PLACES[name]?.title ?? name
}

/** What the rate of a stage is of. @param {string} name */
export function countedBy(name) {
  return PLACES[name]?.counts ?? 'records'
}

/** @param {string} name @returns {Tier} */
export function tierOf(name) {
  return PLACES[name]?.tier ?? 'judges'
}

/** Those of one tier, from top to bottom; the gateway stands beneath payment, at the end. @param {readonly DashboardStage[]} stages @param {Tier} tier */
export function stagesOf(stages, tier) {
  const placeOf = (/** @type {DashboardStage} */ { name }) =>
    PLACES[name] ? ORDER.indexOf(name) : ORDER.indexOf('pricing') - 0.5
  return stages.filter(({ name }) => tierOf(name) === tier).sort((a, b) => placeOf(a) - placeOf(b))
}

/** @param {readonly DashboardStage[]} stages those that there are @returns {Edge[]} */
export function edgesOf(stages) {
  const names = new Set(stages.map(({ name }) => name))
  const judges = stagesOf(stages, 'judges').filter(({ name }) => name !== 'gateway')
  /** @type {Edge[]} */
  const edges = [
    { from: 'producer', to: 'validator', kind: 'topic' },
    { from: 'api', to: 'validator', kind: 'topic' },
    ...judges.flatMap(
      ({ name }) =>
        /** @type {Edge[]} */ ([
          { from: 'validator', to: name, kind: 'topic' },
          { from: name, to: 'fulfilment', kind: 'topic' },
        ]),
    ),
    { from: 'payment', to: 'gateway', kind: 'http' },
    { from: 'fulfilment', to: 'inventory', kind: 'settle' },
    { from: 'fulfilment', to: 'payment', kind: 'settle' },
    { from: 'fulfilment', to: 'order-view', kind: 'topic' },
    { from: 'fulfilment', to: 'analytics', kind: 'topic' },
    { from: 'fulfilment', to: 'mail', kind: 'topic' },
    { from: 'command-center', to: 'metadata-log', kind: 'topic' },
  ]
  return edges.filter(({ from, to }) => names.has(from) && names.has(to))
}

/** Less than this many records are no backlog: control records count too, and a transaction may be under way. */
const LEAST_BACKLOG = 500
const BACKLOG_SECONDS = 5

/** @typedef {DashboardStage['state'] | 'behind'} ShownState */

/** The state in one word: one that runs and has more than some seconds' work before it is behind. @param {DashboardStage} stage @returns {ShownState} */
export function shownState({ state, lag = 0, inPerSecond }) {
  const isBehind = lag > Math.max(LEAST_BACKLOG, BACKLOG_SECONDS * inPerSecond)
  return state === 'running' && isBehind ? 'behind' : state
}

/** States in which somebody should look, the gravest last. @type {readonly ShownState[]} */
export const GRAVITY = ['behind', 'waiting', 'paused', 'silent', 'gone']

/** Whether somebody should look. @param {DashboardStage} stage */
export function needsAttention(stage) {
  return GRAVITY.includes(shownState(stage)) || stage.breaker === 'open'
}
