import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import fc from 'fast-check'
import { AnalyticsDisplay } from '../lib/analyticsDisplay.ts'
import { eventIdOf, type OrderValidated } from '../lib/events.ts'
import { LiveTable, type LiveView, rowsView } from '../lib/liveTable.ts'
import { OrderStatistics } from '../lib/orderStatistics.ts'
import { LagTrend, RateMeter } from '../lib/rateMeter.ts'
import type { RunStage } from '../lib/runStages.ts'
import { type RunFigures, runLine, runLines } from '../lib/runView.ts'
import { type Figures, Tally } from '../lib/tally.ts'
import {
  canRedraw,
  cutText,
  flowText,
  harmless,
  padText,
  type TerminalOutput,
  textWidth,
  wantsColor,
} from '../lib/terminal.ts'
import { TerminalPanel } from '../lib/terminalPanel.ts'
import { defineTopics } from '../lib/topics.ts'

const ESCAPE = '\u001b'
const SEQUENCE_OR_CHARACTER = new RegExp(`${ESCAPE}\\[\\d*[A-Za-z]|.`, 'gsu')

/** A terminal of the kind that wraps its lines anew when it becomes narrower; it knows what we send, and refuses the rest. */
class Screen extends EventEmitter implements TerminalOutput {
  readonly isTTY = true
  columns: number
  rows: number
  /** Each as it was written, with what is in each of its columns. */
  #lines: string[][] = [[]]
  #row = 0
  /** What was written, by calls. */
  readonly written: string[] = []

  constructor(columns: number, rows: number) {
    super()
    this.columns = columns
    this.rows = rows
  }

  write(text: string): boolean {
    this.written.push(text)
    for (const [piece] of text.matchAll(SEQUENCE_OR_CHARACTER)) this.#take(piece)
    return true
  }

  #take(piece: string): void {
    if (piece === '\n') {
      this.#row++
      this.#lines[this.#row] ??= []
    } else if (piece.endsWith('F') && piece.length > 1) {
      const top = Math.max(0, this.#lines.length - this.rows)
      this.#row = Math.max(top, this.#row - Number(piece.slice(2, -1)))
    } else if (piece === '\u001b[J') {
      this.#lines.length = this.#row + 1
      this.#lines[this.#row] = []
    } else if (!/^.\[\d*m$/.test(piece)) {
      assert.doesNotMatch(piece, /\p{Cc}/u, 'nothing else steers it')
      const line = this.#lines[this.#row]!
      assert.ok(line.length + textWidth(piece) <= this.columns, `it wraps: ${line.join('')}`)
      line.push(piece)
      if (textWidth(piece) === 2) line.push('')
    }
  }

  resize(columns: number, rows = this.rows): void {
    const row = this.#row
    const wrapped = this.#lines.map((line) =>
      Array.from({ length: Math.max(1, Math.ceil(line.length / columns)) }, (_, part) =>
        line.slice(part * columns, (part + 1) * columns),
      ),
    )
    this.#row = wrapped.slice(0, row).flat().length
    this.#lines = wrapped.flat()
    this.columns = columns
    this.rows = rows
    this.emit('resize')
  }

  /** All that it has, what has scrolled away included. */
  get text(): string[] {
    const lines = this.#lines.map((line) => line.join('').trimEnd())
    return lines.at(-1) === '' ? lines.slice(0, -1) : lines
  }
}

const FIGURES: Figures = {
  ...new Tally(defineTopics('')).figures,
  placed: 1_234_567,
  rejected: 12_345,
  deadLettered: 1_234,
  confirmed: 1_100_000,
  cancelledOrders: 120_000,
  cancelled: { 'out-of-stock': 90_000, fraud: 30_000, 'payment-declined': 999, timeout: 1 },
  revenueMinor: { EUR: 123_456_789, GBP: 23_456_789, JPY: 9_876_543, USD: 345_678 },
  capturedMinor: { EUR: 113_456_789, GBP: 13_456_789 },
}

const NAMES = ['validator', 'inventory', 'payment', 'fraud', 'pricing', 'fulfilment', 'settle', 'mail']

function run(changes: Partial<Record<string, Partial<RunStage>>> = {}): RunFigures {
  const stages = [...NAMES, 'analytics', 'order-view', 'command-center', 'metadata-log'].map((name) => ({
    name,
    state: 'running' as const,
    perSecond: 1_000.4,
    lag: 120,
    isGrowing: false,
    ...changes[name],
  }))
  return { ordersPerSecond: 1_000, figures: FIGURES, stages }
}

describe('the figures of a run', () => {
  for (const columns of [39, 79, 199]) {
    it(`fit into ${columns + 1} columns, with each end, each stage and all of the money`, () => {
      const lines = runLines(run(), columns, 60, false)
      for (const line of lines) assert.ok(textWidth(line) <= columns, line)
      const text = lines.join('\n')
      for (const shown of [
        'orders    1,000/s',
        'placed 1,234,567',
        'open 988',
        'confirmed 1,100,000',
        'rejected 12,345',
        'dead-lettered 1,234',
        'cancelled 120,000',
        'out-of-stock 90,000',
        'payment-declined 999',
        ...NAMES,
        'metadata-log',
      ]) {
        assert.ok(text.includes(shown), `${shown} in\n${text}`)
      }
      assert.equal(text.match(/1,000\/s {2}lag {5}120/g)?.length, 12)
      assert.match(text, /1,134,567\.89 EUR/)
    })
  }

  it('put as many stages side by side as there is room for, in line', () => {
    const stageLines = (columns: number) => runLines(run(), columns, 60, false).slice(-12)
    assert.match(stageLines(39).at(-12)!, /^validator {8}1,000\/s {2}lag {5}120$/)
    const wide = runLines(run(), 199, 60, false).filter((line) => line.includes('/s  lag'))
    assert.equal(wide.length, 3)
    assert.equal(new Set(wide.slice(0, 2).map((line) => line.indexOf('lag', 60))).size, 1)
  })

  it('say of a low window only how much waits and where, and who does not run', () => {
    const lines = runLines(
      run({ payment: { lag: 30_000, isGrowing: true }, mail: { state: 'gone', lag: undefined } }),
      79,
      10,
      false,
    )
    assert.ok(lines.length <= 10)
    assert.equal(lines.at(-1), 'lag       31,200  payment 30,000 growing  mail is gone')
  })

  it('mark a lag that grows, and say in place of its rate what is wrong with a stage', () => {
    const troubled = run({
      payment: { lag: 30_000, isGrowing: true },
      mail: { state: 'gone' },
      fraud: { lag: undefined },
    })
    const plain = runLines(troubled, 39, 60, false)
    assert.match(plain.join('\n'), /^payment .*1,000\/s {2}lag {2}30,000 ↑$/m)
    assert.match(plain.join('\n'), /^mail +gone {2}lag {5}120$/m)
    assert.match(plain.join('\n'), /^fraud .*lag {7}\?$/m)
    assert.ok(!plain.join('').includes('\u001b'))
    const colored = runLines(troubled, 39, 60, true)
    assert.deepEqual(colored.map(stripVTControlCharacters), plain)
    const painted = colored.filter((line) => line.includes('\u001b'))
    assert.deepEqual(
      painted.map((line) => /^\w+/.exec(line)?.[0]),
      ['payment', 'mail'],
    )
  })

  it('are one plain line in a pipe', () => {
    const line = runLine(run({ payment: { lag: 30_000, isGrowing: true } }))
    assert.match(line, /^orders {2}1,000\/s {2}placed 1,234,567 .* captured 1,134,567\.89 EUR/)
    assert.match(line, /lag {2}31,320 {2}payment 30,000 growing$/)
  })
})

describe('a panel on a terminal', () => {
  const fill = (lines: number, width: number) =>
    Array.from({ length: lines }, (_, line) => String(line).padEnd(width, '.'))

  it('is written over, stays within the window and leaves what stands above it', () => {
    const screen = new Screen(40, 10)
    screen.write('before\n')
    const panel = new TerminalPanel(screen)
    panel.draw(fill(3, 20))
    panel.draw(['a', 'b'])
    assert.deepEqual(screen.text, ['before', 'a', 'b'])
    panel.draw(fill(30, 100), 'above\n')
    assert.deepEqual(screen.text.slice(0, 2), ['before', 'above'])
    assert.equal(screen.text.length, 2 + 9)
    panel.draw(['c'])
    assert.deepEqual(screen.text, ['before', 'above', 'c'], 'nothing of the long one is left')
  })

  it('is written over when the window has become narrower and its lines were wrapped, or wider', () => {
    const screen = new Screen(80, 20)
    screen.write('before\n')
    const panel = new TerminalPanel(screen)
    for (const columns of [40, 30, 100, 17]) {
      panel.draw(fill(3, 79))
      screen.resize(columns)
    }
    panel.draw(['c'])
    assert.deepEqual(screen.text, ['before', 'c'])
  })
})

describe('a live table', () => {
  const view = (name = 'placed'): LiveView => rowsView(() => [[name, '1,234']])

  it('is redrawn when the window changes, and below each line that is printed', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    const screen = new Screen(80, 24)
    const table = new LiveTable(screen)
    table.print('first')
    table.begin(view())
    t.mock.timers.tick(500)
    assert.deepEqual(screen.text, ['first', '  placed  1,234'])
    table.print('second')
    assert.deepEqual(screen.text, ['first', 'second', '  placed  1,234'])
    screen.resize(12)
    assert.deepEqual(screen.text, ['first', 'second', '  placed  …'])
    table.end()
    assert.equal(screen.listenerCount('resize'), 0)
    table.print('last')
    assert.deepEqual(screen.text, ['first', 'second', '  placed  …', 'last'])
  })

  it('lets no line that it prints get hold of the terminal, and keeps its colours', () => {
    const screen = new Screen(80, 24)
    new LiveTable(screen).print('\u001b[31mred\u001b[39m \u001b[2Jcup \u001b]0;title\u0007 \u202etxet\r.')
    assert.deepEqual(screen.written, ['\u001b[31mred\u001b[39m  [2Jcup  ]0;title   txet .\n'])
  })

  it('is a plain line now and then where nothing can be written over, and only if it has changed', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    let text = ''
    let count = 1
    const table = new LiveTable({ write: (more) => (text += more) })
    table.begin(rowsView(() => [['placed', String(count)]]))
    t.mock.timers.tick(6_000)
    count++
    t.mock.timers.tick(2_000)
    table.end()
    assert.equal(text, 'placed 1\nplaced 2\n')
  })
})

describe('colours', () => {
  const terminal = { isTTY: true }
  const cases: [string, boolean, Record<string, string>, boolean][] = [
    ['on a terminal', true, {}, true],
    ['not in a pipe', false, {}, false],
    ['not with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['with an empty NO_COLOR, which says nothing', true, { NO_COLOR: '' }, true],
    ['not on a dumb terminal', true, { TERM: 'dumb' }, false],
    ['in a pipe with FORCE_COLOR', false, { FORCE_COLOR: '1' }, true],
    ['with FORCE_COLOR over NO_COLOR', true, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    ['not with FORCE_COLOR=0', true, { FORCE_COLOR: '0' }, false],
  ]
  for (const [when, isTTY, env, expected] of cases) {
    it(`are wanted ${when}`.replace('wanted not', 'not wanted'), () => {
      assert.equal(wantsColor({ isTTY }, env), expected)
    })
  }

  it('are no reason to write over lines where that cannot be done', () => {
    assert.equal(canRedraw({}, { FORCE_COLOR: '1' }), false)
    assert.equal(canRedraw(terminal, { TERM: 'dumb' }), false)
    assert.equal(canRedraw(terminal, { TERM: 'xterm', NO_COLOR: '1' }), true)
  })
})

describe('the width of text', () => {
  /** What Node itself takes a line of input for. */
  function widthByNode(t: TestContext, text: string): number {
    const output = Object.assign(new PassThrough(), { columns: 1_000 })
    const line = createInterface({ input: new PassThrough(), output, terminal: true, prompt: '' })
    t.after(() => line.close())
    line.write(text)
    return line.getCursorPos().cols
  }

  it('is that which Node counts with, for letters of many scripts', (t) => {
    for (const text of [
      'Mug',
      'Käsekuchen',
      'カップ',
      'ｶｯﾌﾟ',
      '茶碗 大',
      '머그잔',
      'کاپ',
      'ｆｕｌｌ',
      '𠮷野家',
      '☕🍵',
      'e\u0301',
    ]) {
      assert.equal(textWidth(text), widthByNode(t, text), text)
    }
  })

  it('is respected by cutting and filling, whatever the text and its colours', () => {
    const word = fc.constantFrom('Mug', '茶碗', 'e\u0301', '☕', '\u001b[31m', '\u001b[39m', ' ', 'カップ')
    fc.assert(
      fc.property(fc.array(word, { maxLength: 20 }), fc.integer({ min: 1, max: 30 }), (words, columns) => {
        const text = words.join('')
        const cut = cutText(text, columns)
        assert.ok(textWidth(cut) <= columns)
        if (textWidth(text) <= columns) assert.equal(cut, text)
        assert.equal(textWidth(padText(cut, columns)), columns)
      }),
    )
    assert.equal(cutText('\u001b[31m茶碗 大\u001b[39m', 4), '\u001b[31m茶…\u001b[0m')
  })

  it('breaks items over lines, set in below the first, and leaves none out', () => {
    assert.deepEqual(flowText('ends  ', ['a 1', 'b 2', 'c 3', 'longer 4'], 16), [
      'ends  a 1  b 2',
      '      c 3',
      '      longer 4',
    ])
    assert.equal(harmless('tab\tand ☕'), 'tab\tand ☕')
  })
})

describe('what tells rates and trends', () => {
  it('measures a rate over the last three seconds, and forgets what was before', () => {
    const rates = new RateMeter()
    for (let second = 0; second <= 10; second++) rates.rate('placed', second * 100, second * 1_000)
    assert.equal(rates.rate('placed', 1_000, 11_000), 75)
    assert.equal(rates.rate('placed', 1_000, 30_000), 0)
  })

  it('calls a lag growing when it stays above all that it was, and not when it goes up and down', () => {
    const isGrowing = (...lags: (number | undefined)[]) => {
      const trend = new LagTrend()
      for (const lag of lags) trend.note(lag)
      return trend.isGrowing
    }
    assert.equal(isGrowing(0, 500, 1_000, 1_500, 2_000, 2_500), true)
    assert.equal(isGrowing(0, 500, undefined, 1_000, 1_500, 2_000, 2_500), true)
    assert.equal(isGrowing(0, 500, 1_000, 1_500), false, 'too early to tell')
    assert.equal(isGrowing(2_000, 0, 2_000, 2_100, 100, 2_200), false)
    assert.equal(isGrowing(3_000, 1_000, 3_000, 2_100, 2_200, 2_300), false)
    assert.equal(isGrowing(0, 100, 200, 300, 400, 500), false, 'no more than a batch')
    assert.equal(isGrowing(9_000, 8_000, 7_000, 6_000, 5_000, 4_000), false)
  })
})

describe('the panel of analytics', () => {
  const nowMs = Date.parse('2026-11-21T12:00:10.000Z')
  const PRODUCTS = [
    '茶碗 大きいサイズ 限定版',
    'Mug\u001b[2J\u202e',
    'Tea ☕ set',
    'A rather long name of a product, too long',
  ]

  function order(name: string, index: number): OrderValidated {
    const placedAt = new Date(nowMs - 10_000).toISOString()
    const orderId = `ord-${index}`
    return {
      type: 'OrderValidated',
      eventId: eventIdOf(orderId, 'OrderValidated'),
      occurredAt: placedAt,
      validatedAt: placedAt,
      ...{ orderId, customerId: 'cus-1', placedAt, currency: index % 2 ? 'EUR' : 'JPY', total: 123_456 },
      items: [{ sku: `sku-${index}`, name, quantity: 10 - index, unitPrice: 100 }],
      ...{ status: 'PENDING', validationStatus: 'VALID', processedBy: 'test' },
      customer: { id: 'cus-1', name: 'A', email: 'a@example.com', tier: 'gold', country: 'DE' },
    }
  }

  function show(output: TerminalOutput): void {
    const statistics = new OrderStatistics(60_000)
    for (const [index, name] of PRODUCTS.entries()) statistics.add(order(name, index), nowMs - 2_000)
    const display = new AnalyticsDisplay({ json: false, graceMs: 60_000, minutes: 5, output })
    display.show([statistics], { shown: 3, of: 3 }, 1_234, nowMs)
    display.show([statistics], { shown: 3, of: 3 }, 1_234, nowMs + 1_000)
  }

  for (const columns of [40, 80, 200]) {
    it(`fits into ${columns} columns with its figures in line, whatever products are called`, () => {
      const screen = new Screen(columns, 40)
      show(screen)
      const text = screen.text.join('\n')
      assert.match(text, /^analytics {2}partitions 3 of 3 {2}lag 1,234/)
      assert.equal(/^ {2}sku-0 .* [A-Z]{3}$/m.test(text), columns > 40, 'revenue where there is room for it')
      assert.match(text, /0\.4 orders\/s/)
      assert.equal(text.match(/^orders /gm)?.length, 1, 'drawn over')
      const products = screen.text.filter((line) => line.startsWith('  sku-'))
      assert.equal(products.length, PRODUCTS.length)
      const ends = products.map((line) => textWidth(line.slice(0, / (7|8|9|10)( {2}|$)/.exec(line)!.index)))
      // The quantities end at the same column: the one with two digits begins one before.
      assert.deepEqual(new Set(ends.map((end, index) => end - (index === 0 ? -1 : 0))).size, 1)
    })
  }

  it('shows as much as there are rows for', () => {
    const screen = new Screen(80, 8)
    show(screen)
    assert.equal(screen.text.length, 7)
  })

  it('is a line in a pipe, with the lag', () => {
    let text = ''
    show({ write: (more) => (text += more) })
    assert.match(
      text,
      /^0\.4 orders\/s {2}booked\/min .* 4 orders {2}booked .* partitions 3 of 3 {2}lag 1,234 {2}since [\dT:-]+Z\n$/,
    )
  })
})
