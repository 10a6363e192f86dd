/** Results as text for a terminal and as Markdown for docs/BENCHMARKS.md. */
import { execFileSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { findJava, KAFKA_VERSION } from '../infra/kafkaJars.ts'
import { POSTGRES_VERSION } from '../infra/postgres.ts'
import { formatTable } from '../lib/text.ts'
import type { BenchTable, CaseResult } from './context.ts'

export interface Machine {
  cores: number
  processor: string
  memoryGiB: number
  system: string
  node: string
  java: string
  kafka: string
  postgres: string
  /** What was measured; '' outside of a clone. */
  commit: string
  at: string
}

export async function describeMachine(): Promise<Machine> {
  return {
    cores: cpus().length,
    processor: cpus()[0]?.model ?? '',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${process.arch}`,
    node: process.version,
    java: (await findJava()).version,
    kafka: KAFKA_VERSION,
    postgres: POSTGRES_VERSION,
    commit: commit(),
    at: new Date().toISOString(),
  }
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim()
  } catch {
    // No git, or no clone: said as such.
    return ''
  }
}

/** @throws Error for a table with a row of another width than its header */
export function toText(machine: Machine, results: readonly CaseResult[]): string {
  const parts = [machineLine(machine)]
  for (const { name, tables, targets } of results) {
    parts.push(`\n== ${name} ==`)
    for (const table of tables) {
      const { title, header, rows, notes = [] } = checked(table)
      parts.push(`\n${title}`, formatTable(header, rows, numbersOf(header)).trimEnd(), ...notes)
    }
    if (targets.length > 0) parts.push('')
    for (const { what, wanted, got, isMet } of targets) {
      parts.push(`${isMet ? 'met   ' : 'MISSED'}  ${what}: ${got}, wanted ${wanted}`)
    }
  }
  return `${parts.join('\n')}\n`
}

/** @throws Error for a table with a row of another width than its header */
export function toMarkdown(machine: Machine, results: readonly CaseResult[]): string {
  const parts = [machineLine(machine)]
  for (const { name, tables, targets } of results) {
    parts.push(`### ${name}`)
    for (const table of tables.map(checked))
      parts.push(`**${table.title}**`, markdownTable(table), ...(table.notes ?? []))
    if (targets.length === 0) continue
    const rows = targets.map(({ what, wanted, got, isMet }) => [
      what,
      wanted,
      got,
      isMet ? 'met' : '**missed**',
    ])
    parts.push(markdownTable({ header: ['target', 'wanted', 'measured', ''], rows }))
  }
  return `${parts.join('\n\n')}\n`
}

/** A cell too few or too many would stand under the heading of another. */
function checked(table: BenchTable): BenchTable {
  const { title, header, rows } = table
  const wrong = rows.find(({ length }) => length !== header.length)
  if (wrong) {
    throw new Error(`${title}: a row of ${wrong.length} cells under ${header.length} headings: ${wrong}`)
  }
  return table
}

function markdownTable({ header, rows }: Pick<BenchTable, 'header' | 'rows'>): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  const rule = header.map((_, column) => (numbersOf(header).has(column) ? '---:' : '---'))
  return [line(header), `|${rule.join('|')}|`, ...rows.map(line)].join('\n')
}

/** All columns but the first. */
function numbersOf(header: readonly string[]): ReadonlySet<number> {
  return new Set(header.slice(1).map((_, index) => index + 1))
}

function machineLine(machine: Machine): string {
  const { cores, processor, memoryGiB, system, node, java, kafka, postgres, commit: measured, at } = machine
  return (
    `${at.slice(0, 10)}, ${measured || 'no commit'}: ${cores} cores (${processor}), ${memoryGiB} GiB, ${system}, ` +
    `Node ${node}, Java ${java}, Kafka ${kafka}, PostgreSQL ${postgres}`
  )
}
