/**
 * The moving charts: orders a second, and a minute's revenue for each currency. Drawn by uPlot on a canvas, so each says
 * in words what it shows; colours are those of its legend, which has them from style.css.
 */
import uPlot from '/vendor/uPlot.esm.js'
import { element, keepChildren, setAttribute, setText } from './dom.js'
import { formatCompact, formatMinute, formatMoney, formatRate, formatTime, minorUnits } from './formats.js'
import { MAX_POINTS } from './series.js'
import { THEME_CHANGED } from './theme.js'

/** @import { Series } from './series.js' */
/** @typedef {{ label: string, className: string }} Line */
/** @typedef {{ title: string, lines: Line[], format: (value: number) => string, axisFormat: (value: number) => string }} ChartOptions */

const LEAST_SPAN_SECONDS = 120
/** What is said in words need not be said anew each second. */
const SAID_EVERY_MS = 10_000
const SYNC_KEY = 'dashboard'

class MovingChart {
  root
  #options
  #plot
  #image
  #values
  #saidAtMs = 0

  /** @param {ChartOptions} options */
  constructor(options) {
    const { title, lines } = options
    this.#options = options
    this.#values = lines.map(() => element('span', { class: 'legend-value' }))
    const legend = lines.map(({ label, className }, index) => {
      const swatch = element('span', { class: `swatch ${className}`, 'aria-hidden': 'true' })
      return element('span', { class: 'legend-item' }, swatch, label, ' ', this.#values[index] ?? '')
    })
    this.#image = element('div', { class: 'plot', role: 'img', 'aria-label': title })
    this.root = element(
      'figure',
      { class: 'chart' },
      element('figcaption', {}, element('h3', {}, title), element('p', { class: 'legend' }, ...legend)),
      this.#image,
    )
    this.#plot = new uPlot(this.#plotOptions(), [[], ...lines.map(() => [])], this.#image)
    new ResizeObserver(() => this.#fit()).observe(this.#image)
  }

  /** @param {readonly number[][]} columns seconds, then the values of each line */
  show(columns) {
    const [seconds = [], ...values] = columns
    this.#plot.setData(/** @type {uPlot.AlignedData} */ (columns), false)
    const last = seconds.at(-1) ?? Date.now() / 1_000
    const first = Math.max(seconds[0] ?? last, last - MAX_POINTS)
    this.#plot.setScale('x', { min: Math.min(first, last - LEAST_SPAN_SECONDS), max: last })
    this.#showValues()
    if (Date.now() - this.#saidAtMs < SAID_EVERY_MS) return
    this.#saidAtMs = Date.now()
    setAttribute(this.#image, 'aria-label', this.#describe(values, (last - first) / 60))
  }

  /** The colours have become others. */
  repaint() {
    this.#plot.redraw(false, true)
  }

  destroy() {
    this.#plot.destroy()
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#image
    if (width > 0 && height > 0) this.#plot.setSize({ width, height })
  }

  /** At the pointer, else the latest. */
  #showValues() {
    const { data, cursor } = this.#plot
    const index = cursor.idx ?? data[0].length - 1
    const seconds = data[0][index]
    this.#values.forEach((node, line) => {
      const value = data[line + 1]?.[index]
      const isOld = typeof cursor.idx === 'number' && seconds !== undefined
      const at = isOld ? ` at ${formatTime(seconds * 1_000)}` : ''
      setText(node, typeof value === 'number' ? `${this.#options.format(value)}${at}` : '–')
    })
  }

  /** @param {number[][]} values @param {number} minutes */
  #describe(values, minutes) {
    const { title, lines, format } = this.#options
    const said = lines.map(({ label }, index) => {
      const of = values[index] ?? []
      if (of.length === 0) return `${label}: nothing yet`
      const mean = of.reduce((sum, value) => sum + value, 0) / of.length
      const [now, least, most] = [of.at(-1) ?? 0, Math.min(...of), Math.max(...of)].map(format)
      return `${label}: now ${now}, between ${least} and ${most}, on average ${format(mean)}`
    })
    return `${title}, the last ${Math.max(1, Math.round(minutes))} minutes. ${said.join('. ')}.`
  }

  /** @returns {uPlot.Options} */
  #plotOptions() {
    const { lines, axisFormat } = this.#options
    const colorOf = (/** @type {string} */ className) => {
      const swatch = this.root.querySelector(`.${className}`)
      return swatch ? getComputedStyle(swatch).color : 'gray'
    }
    const ink = () => getComputedStyle(this.#image).color
    const grid = { stroke: () => getComputedStyle(this.#image).borderTopColor, width: 1 }
    const font = '11px system-ui, sans-serif'
    return {
      width: 400,
      height: 160,
      legend: { show: false },
      cursor: { sync: { key: SYNC_KEY }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, auto: false },
        y: { range: (_plot, _least, most) => [0, Math.max(most * 1.15, 1)] },
      },
      axes: [
        {
          stroke: ink,
          grid: { show: false },
          ticks: { show: false },
          font,
          size: 26,
          space: 70,
          values: (_plot, ticks) => ticks.map((tick) => formatMinute(tick * 1_000)),
        },
        {
          stroke: ink,
          grid,
          ticks: { show: false },
          font,
          size: 52,
          space: 32,
          values: (_plot, ticks) => ticks.map(axisFormat),
        },
      ],
      series: [
        {},
        ...lines.map(({ className }, index) => ({
          stroke: () => colorOf(className),
          width: 2,
          points: { show: false },
          ...(index === 0
            ? {
                fill: () => colorOf(className).replace(/^rgba?\(([^,)]+,[^,)]+,[^,)]+).*$/, 'rgba($1, 0.16)'),
              }
            : { dash: [6, 4] }),
        })),
      ],
      hooks: { setCursor: [() => this.#plot && this.#showValues()] },
    }
  }
}

export class Charts {
  #grid
  /** @type {Map<string, MovingChart>} by currency; the orders under '' */
  #charts = new Map()

  /** @param {HTMLElement} grid */
  constructor(grid) {
    this.#grid = grid
    document.addEventListener(THEME_CHANGED, () => {
      for (const chart of this.#charts.values()) chart.repaint()
    })
  }

  /** @param {Series} series */
  show({ seconds, orders, revenue }) {
    const keys = ['', ...[...revenue.keys()].sort()]
    for (const [key, chart] of this.#charts) {
      if (keys.includes(key)) continue
      chart.destroy()
      this.#charts.delete(key)
    }
    keepChildren(this.#grid, keys, {
      key: (key) => key,
      create: (key) => this.#create(key).root,
      update: (_root, key) => {
        const { booked, captured } = revenue.get(key) ?? {}
        this.#charts.get(key)?.show(booked && captured ? [seconds, booked, captured] : [seconds, orders])
      },
    })
  }

  /** @param {string} currency */
  #create(currency) {
    const chart = new MovingChart(currency === '' ? ORDERS_CHART : revenueChart(currency))
    this.#charts.set(currency, chart)
    return chart
  }
}

/** @type {ChartOptions} */
const ORDERS_CHART = {
  title: 'Orders per second',
  lines: [{ label: 'validated', className: 'color-orders' }],
  format: formatRate,
  axisFormat: formatCompact,
}

/** @param {string} currency @returns {ChartOptions} */
function revenueChart(currency) {
  const units = minorUnits(currency)
  return {
    title: `Revenue per minute, ${currency}`,
    lines: [
      { label: 'booked', className: 'color-booked' },
      { label: 'captured', className: 'color-captured' },
    ],
    format: (minor) => formatMoney(minor, currency, { isWhole: true }),
    axisFormat: (minor) => formatCompact(minor / units),
  }
}
