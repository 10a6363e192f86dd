/**
 * The pipeline as a picture: a card for each stage in tiers (HTML, so that it can be read, zoomed and laid out), and the
 * ways between them (SVG, drawn beneath from where the cards stand).
 *
 * @import { DashboardSnapshot, DashboardStage } from '../lib/dashboardSnapshot.ts'
 * @import { Box, Way } from './paths.js'
 * @import { Edge, Tier } from './stages.js'
 */
import { element, find, icon, keepChildren, setAttribute, setIcon, setText, svgElement } from './dom.js'
import { formatCompact, formatCount, formatDuration, formatRate, formatShare } from './formats.js'
import { downwards, wayBetween } from './paths.js'
import {
  countedBy,
  edgesOf,
  GRAVITY,
  needsAttention,
  shownState,
  stagesOf,
  TIERS,
  titleOf,
} from './stages.js'

/** So many stages are named in the sentence above the picture. */
const MAX_NAMED = 3
/** One second each. */
const SPARK_POINTS = 60
const SPARK_WIDTH = 100
const SPARK_HEIGHT = 24
const FASTEST_FLOW_SECONDS = 0.8
const SLOWEST_FLOW_SECONDS = 6

/** @typedef {{ root: HTMLLIElement, rates: number[], show(stage: DashboardStage): void }} Card */

export class Picture {
  #root
  #summary
  #edges = svgElement('svg', { class: 'edges', 'aria-hidden': 'true' })
  #tiers = element('div', { class: 'tiers' })
  /** @type {Map<string, Card>} */
  #cards = new Map()
  /** @type {readonly DashboardStage[]} */
  #stages = []

  /** @param {HTMLElement} section */
  constructor(section) {
    this.#root = find(section, '.picture')
    this.#summary = find(section, '#pipeline-summary')
    this.#root.append(this.#edges, this.#tiers)
    new ResizeObserver(() => this.#drawEdges()).observe(this.#root)
  }

  /** @param {DashboardSnapshot} snapshot */
  show({ stages }) {
    const isOther = stages.map(({ name }) => name).join() !== this.#stages.map(({ name }) => name).join()
    this.#stages = stages
    const tiers = /** @type {Tier[]} */ (Object.keys(TIERS)).filter(
      (tier) => stagesOf(stages, tier).length > 0,
    )
    keepChildren(this.#tiers, tiers, {
      key: (tier) => tier,
      create: createTier,
      update: (tierElement, tier) => this.#showTier(tierElement, tier),
    })
    this.#forgetCards()
    setText(this.#summary, summarise(stages))
    if (isOther) this.#drawEdges()
    this.#showFlow()
  }

  /** @param {HTMLElement} tierElement @param {Tier} tier */
  #showTier(tierElement, tier) {
    keepChildren(find(tierElement, 'ul'), stagesOf(this.#stages, tier), {
      key: ({ name }) => name,
      create: ({ name }) => {
        const card = createCard(name)
        this.#cards.set(name, card)
        return card.root
      },
      update: (_child, stage) => this.#cards.get(stage.name)?.show(stage),
    })
  }

  #forgetCards() {
    const names = new Set(this.#stages.map(({ name }) => name))
    for (const name of this.#cards.keys()) if (!names.has(name)) this.#cards.delete(name)
  }

  /** Anew, since the cards have moved. */
  #drawEdges() {
    const { width, height, left, top } = this.#root.getBoundingClientRect()
    if (width === 0) return
    setAttribute(this.#edges, 'viewBox', `0 0 ${width} ${height}`)
    /** @param {Element} box */
    const place = (box) => {
      const rectangle = box.getBoundingClientRect()
      return {
        x: rectangle.left - left,
        y: rectangle.top - top,
        width: rectangle.width,
        height: rectangle.height,
      }
    }
    const ways = this.#isUpright
      ? pairs([...this.#tiers.children]).map(([above, below]) =>
          createWay(downwards(place(above), place(below))),
        )
      : edgesOf(this.#stages).map((edge) => this.#createWay(edge, place))
    this.#edges.replaceChildren(...ways)
    this.#showFlow()
  }

  /** On a narrow page the tiers stand beneath one another. */
  get #isUpright() {
    const [first, second] = [...this.#tiers.children].map((tier) => tier.getBoundingClientRect().top)
    return first !== undefined && second !== undefined && second > first + 10
  }

  /** @param {Edge} edge @param {(box: Element) => Box} place */
  #createWay(edge, place) {
    const { from, to, kind } = edge
    const [first, second] = [this.#cards.get(from), this.#cards.get(to)]
    if (!first || !second) return svgElement('g')
    return createWay(wayBetween(place(first.root), place(second.root), kind), edge)
  }

  /** Faster and wider the more goes along it; none where nothing goes. */
  #showFlow() {
    const stageOf = new Map(this.#stages.map((stage) => [stage.name, stage]))
    for (const way of this.#edges.children) {
      const { from, to } = /** @type {SVGGElement} */ (way).dataset
      const rate = flowRate(stageOf.get(from ?? 'validator'), stageOf.get(to ?? 'validator'))
      const strength = Math.min(1, Math.log10(1 + rate) / 3.5)
      const seconds = SLOWEST_FLOW_SECONDS - strength * (SLOWEST_FLOW_SECONDS - FASTEST_FLOW_SECONDS)
      const { style } = /** @type {SVGGElement} */ (way)
      way.classList.toggle('is-flowing', rate > 0)
      // Each change begins the movement anew.
      style.setProperty('--flow-seconds', `${Math.round(seconds)}s`)
      style.setProperty('--flow-width', `${(1.5 + 2 * strength).toFixed(1)}px`)
    }
  }
}

/** Each with the one after it. @param {Element[]} elements @returns {[Element, Element][]} */
function pairs(elements) {
  return elements.slice(1).map((second, index) => [/** @type {Element} */ (elements[index]), second])
}

/** @param {Way} way @param {Edge} [edge] */
function createWay({ line, arrow }, edge) {
  const parts = Object.entries({ line, arrow, flow: line })
  const way = svgElement(
    'g',
    { class: `way ${edge?.kind ?? 'topic'}` },
    ...parts.map(([part, d]) => svgElement('path', { d, class: part })),
  )
  if (edge) Object.assign(way.dataset, { from: edge.from, to: edge.to })
  return way
}

/** What goes from one to the other cannot be more than either has to do with. @param {DashboardStage | undefined} from @param {DashboardStage | undefined} to */
function flowRate(from, to) {
  if (!from || !to) return 0
  return Math.min(from.outPerSecond || from.inPerSecond, to.inPerSecond)
}

/** @param {Tier} tier */
function createTier(tier) {
  return element(
    'section',
    { class: `tier tier-${tier}` },
    element('h3', {}, TIERS[tier]),
    element('ul', { class: 'stages' }),
  )
}

/** @param {string} name @returns {Card} */
function createCard(name) {
  const stateIcon = icon('absent')
  const state = element('span', { class: 'state-word' })
  const rate = element('span', { class: 'rate-number' })
  const line = svgElement('polyline', { class: 'spark-line' })
  const spark = svgElement(
    'svg',
    {
      class: 'spark',
      viewBox: `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`,
      preserveAspectRatio: 'none',
      'aria-hidden': 'true',
    },
    line,
  )
  const instances = element('span', { class: 'instances', 'aria-hidden': 'true' })
  const instancesInWords = element('span', { class: 'visually-hidden' })
  const facts = element('dl', { class: 'facts' })
  const note = element('p', { class: 'note', hidden: '' })
  const root = element(
    'li',
    { class: 'stage', 'data-stage': name },
    element('h4', {}, titleOf(name)),
    element('p', { class: 'state' }, stateIcon, state),
    element(
      'p',
      { class: 'rate' },
      rate,
      element('span', { class: 'unit', 'aria-hidden': 'true' }, ` ${countedBy(name)}/s `),
      element('span', { class: 'visually-hidden' }, ` ${countedBy(name)} per second`),
      instances,
      instancesInWords,
    ),
    spark,
    facts,
    note,
  )
  /** @type {number[]} */
  const rates = []
  return {
    root,
    rates,
    show(stage) {
      const shown = shownState(stage)
      setAttribute(root, 'data-state', shown)
      root.classList.toggle('needs-attention', needsAttention(stage))
      setIcon(stateIcon, shown)
      setText(state, shown)
      const recordsPerSecond = stage.inPerSecond || stage.outPerSecond
      setText(rate, formatRate(recordsPerSecond))
      rates.push(recordsPerSecond)
      if (rates.length > SPARK_POINTS) rates.shift()
      line.setAttribute('points', sparkPoints(rates))
      setText(instances, `×${formatCount(stage.instances)}`)
      setText(
        instancesInWords,
        `, ${formatCount(stage.instances)} ${stage.instances === 1 ? 'instance' : 'instances'}`,
      )
      showFacts(facts, stage)
      const isOpen = stage.breaker === 'open'
      note.hidden = !isOpen
      setText(note, isOpen ? 'circuit open: requests to the gateway are held back' : '')
    },
  }
}

/** @param {HTMLElement} list @param {DashboardStage} stage */
function showFacts(list, { lag, p50Ms, p99Ms, errorShare, deadLetters }) {
  const facts = [
    ...(lag === undefined
      ? []
      : [{ term: 'lag', value: lag < 100_000 ? formatCount(lag) : formatCompact(lag) }]),
    ...(lag === undefined && deadLetters === 0
      ? []
      : [{ term: 'dead-lettered', value: formatShare(errorShare) }]),
    ...(p50Ms === undefined ? [] : [{ term: 'p50', value: formatDuration(p50Ms) }]),
    ...(p99Ms === undefined ? [] : [{ term: 'p99', value: formatDuration(p99Ms) }]),
  ]
  keepChildren(list, facts, {
    key: ({ term }) => term,
    create: ({ term }) => element('div', { 'data-fact': term }, element('dt', {}, term), element('dd')),
    update: (fact, { value }) => setText(/** @type {Element} */ (fact.lastElementChild), value),
  })
}

/** @param {readonly number[]} rates */
function sparkPoints(rates) {
  const most = Math.max(1, ...rates)
  const step = SPARK_WIDTH / (SPARK_POINTS - 1)
  const first = SPARK_POINTS - rates.length
  return rates
    .map((rate, index) => {
      const y = SPARK_HEIGHT - 1 - (rate / most) * (SPARK_HEIGHT - 2)
      return `${((first + index) * step).toFixed(1)},${y.toFixed(1)}`
    })
    .join(' ')
}

/** What is gone comes before what is slow. @param {DashboardStage} stage */
function gravity(stage) {
  return GRAVITY.indexOf(shownState(stage)) + (stage.breaker === 'open' ? GRAVITY.length : 0)
}

/** @param {readonly DashboardStage[]} stages */
function summarise(stages) {
  if (stages.length === 0) return 'No stage has been seen yet.'
  const needy = stages.filter(needsAttention).sort((a, b) => gravity(b) - gravity(a))
  if (needy.length === 0) {
    const working = stages.filter(({ state }) => state === 'running').length
    return `All is well: ${working} of ${stages.length} stages are running.`
  }
  const said = needy.slice(0, MAX_NAMED).map((stage) => {
    const shown = shownState(stage)
    if (stage.breaker === 'open') return `${titleOf(stage.name)}'s circuit is open`
    return `${titleOf(stage.name)} is ${shown}${shown === 'behind' ? ` by ${formatCount(stage.lag ?? 0)} records` : ''}`
  })
  const rest = needy.length - said.length
  return `${said.join(', ')}${rest > 0 ? `, and ${rest} more need attention` : ''}.`
}
