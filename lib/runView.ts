/** What `npm start` shows while it runs: what comes in, to which ends it comes, the money, and each stage. */
import { formatMoney } from './money.ts'
import type { RunStage } from './runStages.ts'
import type { Figures } from './tally.ts'
import { cutText, flowText, padText, paint, textWidth } from './terminal.ts'
import { formatCount } from './text.ts'

export interface RunFigures {
  ordersPerSecond: number
  figures: Figures
  stages: readonly RunStage[]
}

/** Wide enough for '123,456/s' and for every word that stands in its place. */
const RATE_WIDTH = 9
const LAG_WIDTH = 7
const GAP = '   '
const ALARMS: Readonly<Partial<Record<RunStage['state'], 'red' | 'yellow'>>> = {
  gone: 'red',
  silent: 'red',
  waiting: 'yellow',
  paused: 'yellow',
}

/**
 * As many stages side by side as there is room for. In a window that is too low for them, only what stands out of them.
 *
 * @param isColored paints what is to be looked at; nothing is told by colour alone
 */
export function runLines(run: RunFigures, columns: number, rows: number, isColored: boolean): string[] {
  const head = [
    ...flowText('orders    ', orderItems(run), columns),
    ...flowText('ends      ', endItems(run.figures), columns),
    ...flowText('booked    ', formatMoneys(run.figures.revenueMinor), columns),
    ...flowText('captured  ', formatMoneys(run.figures.capturedMinor), columns),
  ]
  const stages = stageLines(run.stages, columns, isColored)
  if (head.length + stages.length <= rows) return [...head, ...stages]
  return [...head, ...flowText('lag       ', lagItems(run.stages), columns)]
}

/** The same in one line. */
export function runLine(run: RunFigures): string {
  const { figures } = run
  const money = (name: string, amounts: Record<string, number>) =>
    `${name} ${formatMoneys(amounts).join(' + ')}`
  return [
    'orders',
    ...orderItems(run),
    ...endItems(figures),
    money('booked', figures.revenueMinor),
    money('captured', figures.capturedMinor),
    'lag',
    ...lagItems(run.stages),
  ].join('  ')
}

function orderItems({ ordersPerSecond, figures }: RunFigures): string[] {
  const { placed, redriven, rejected, deadLettered, confirmed, cancelledOrders } = figures
  // The topics are read side by side, so for a moment an end can be seen before its beginning.
  const open = Math.max(0, placed + redriven - rejected - deadLettered - confirmed - cancelledOrders)
  return [`${formatCount(ordersPerSecond)}/s`, `placed ${formatCount(placed)}`, `open ${formatCount(open)}`]
}

function endItems({ confirmed, rejected, deadLettered, cancelledOrders, cancelled }: Figures): string[] {
  const reasons = Object.entries(cancelled).map(([code, count]) => `${code} ${formatCount(count)}`)
  const of = (end: string, count: number) => `${end} ${formatCount(count)}`
  return [
    of('confirmed', confirmed),
    of('rejected', rejected),
    of('dead-lettered', deadLettered),
    `${of('cancelled', cancelledOrders)}${reasons.length > 0 ? ':' : ''}`,
    ...reasons,
  ]
}

function formatMoneys(amounts: Record<string, number>): string[] {
  const parts = Object.entries(amounts).map(([currency, minor]) => formatMoney(minor, currency))
  return parts.length > 0 ? parts : ['0']
}

function stageLines(stages: readonly RunStage[], columns: number, isColored: boolean): string[] {
  const nameWidth = stages.reduce((widest, { name }) => Math.max(widest, textWidth(name)), 0)
  const cells = stages.map((stage) => stageCell(stage, nameWidth, isColored))
  const cellWidth = cells.reduce((widest, cell) => Math.max(widest, textWidth(cell)), 0)
  const perLine = Math.max(1, Math.floor((columns + GAP.length) / (cellWidth + GAP.length)))
  return Array.from({ length: Math.ceil(cells.length / perLine) }, (_, line) =>
    cutText(
      cells
        .slice(line * perLine, (line + 1) * perLine)
        .map((cell) => padText(cell, cellWidth))
        .join(GAP)
        .trimEnd(),
      columns,
    ),
  )
}

/** 'payment       1,000/s  lag     120', with ↑ behind a lag that grows, and in place of the rate what is wrong. */
function stageCell(
  { name, state, perSecond, lag, isGrowing }: RunStage,
  nameWidth: number,
  isColored: boolean,
) {
  const rate = state === 'running' ? `${formatCount(Math.round(perSecond))}/s` : state
  const shownLag = padText(lag === undefined ? '?' : formatCount(lag), LAG_WIDTH, 'left')
  return [
    `${padText(name, nameWidth)} ${paint(padText(rate, RATE_WIDTH, 'left'), isColored ? ALARMS[state] : undefined)}`,
    paint(`lag ${shownLag}${isGrowing ? ' ↑' : '  '}`, isColored && isGrowing ? 'yellow' : undefined),
  ].join('  ')
}

/** All of it, whose it is, and who does not run. */
function lagItems(stages: readonly RunStage[]): string[] {
  const known = stages.filter(({ lag }) => lag !== undefined)
  const total = known.reduce((sum, { lag }) => sum + lag!, 0)
  const behind = known.filter(({ lag, isGrowing }) => isGrowing || lag! * 10 > total)
  return [
    known.length > 0 ? formatCount(total) : '?',
    ...behind
      .filter(({ lag }) => lag! > 0)
      .map(({ name, lag, isGrowing }) => `${name} ${formatCount(lag!)}${isGrowing ? ' growing' : ''}`),
    ...stages.filter(({ state }) => state !== 'running').map(({ name, state }) => `${name} is ${state}`),
  ]
}
