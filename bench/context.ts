/** What every case of `npm run bench` is given, and what it answers. */

export interface BenchContext {
  /** One line about how far it is: shown at once, on standard error. */
  say(line: string): void
  /** A line that takes the place of the one before on a terminal; elsewhere shown every few seconds at most. */
  progress(line: string): void
  /** Quick look: smaller numbers, the same case. */
  isQuick: boolean
  /** How often the main pair of a case is measured, interleaved; other peers may be measured less often. */
  rounds: number
  /** So many orders in a backlog; undefined: as the case thinks best. */
  orders: number | undefined
  /** Aborted by Ctrl-C: stop what was started, and throw or return. */
  signal: AbortSignal
  /** Empty, on a disk with room, removed afterwards. A case makes its own broker and database in it and stops them. */
  dataDir: string
}

export interface BenchTable {
  title: string
  header: string[]
  /** As many cells in each as in the header; the first column is text, the others are aligned right. */
  rows: string[][]
  /** What has to be known to read it. */
  notes?: string[]
}

/** A target of the case, and whether it was met. */
export interface BenchTarget {
  what: string
  /** 'at least 1.0' */
  wanted: string
  /** '1.12 (1.05 to 1.20)' */
  got: string
  isMet: boolean
}

export interface CaseResult {
  /** 'stage', 'pipeline', 'latency', 'growth', 'soak' */
  name: string
  tables: BenchTable[]
  targets: BenchTarget[]
  /** Figures of every single run, for the JSON file. */
  raw: unknown
}
