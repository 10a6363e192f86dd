import type { PriceFacts, VerdictFacts } from './auditEvents.ts'
import { JUDGE_NAMES, type JudgeName } from './judges.ts'

const RESULTS = ['none', 'pass', 'warning', 'fail'] as const
export type VerdictResult = (typeof RESULTS)[number]

/**
 * What the judges say about validated orders, in columns by the cell of the validated record: an order that was
 * validated twice, with other lines, can have two prices. The first verdict on a record counts. One that came after the
 * look at the bounds counts too: it was there when the decision was made on which it bears.
 */
export class VerdictTable {
  readonly #results = new Map<JudgeName, Uint8Array>()
  readonly #codes = new Map<JudgeName, Uint8Array>()
  readonly subtotal: Float64Array
  readonly total: Float64Array
  /** Of the price; 0 without one. */
  readonly currency: Uint8Array
  readonly reasonCodes = new ReasonCodes()

  constructor(size: number) {
    for (const judge of JUDGE_NAMES) {
      this.#results.set(judge, new Uint8Array(size))
      this.#codes.set(judge, new Uint8Array(size))
    }
    this.subtotal = new Float64Array(size)
    this.total = new Float64Array(size)
    this.currency = new Uint8Array(size)
  }

  put(judge: JudgeName, cell: number, { result, code }: VerdictFacts): void {
    const results = this.#results.get(judge)!
    if (results[cell] !== 0) return
    results[cell] = RESULTS.indexOf(result)
    if (code !== undefined) this.#codes.get(judge)![cell] = this.reasonCodes.numberOf(code)
  }

  putPrice(cell: number, { subtotalMinor, totalMinor }: PriceFacts, currency: number): void {
    if (this.currency[cell] !== 0) return
    this.subtotal[cell] = subtotalMinor
    this.total[cell] = totalMinor
    this.currency[cell] = currency
  }

  resultOf(judge: JudgeName, cell: number): VerdictResult {
    return RESULTS[this.#results.get(judge)![cell] ?? 0]!
  }

  /** Whether reasons, as bits, name the verdict. */
  isNamed(judge: JudgeName, cell: number, reasons: number): boolean {
    return (reasons & ReasonCodes.bitOf(this.#codes.get(judge)![cell]!)) !== 0
  }
}

const MAX_CODES = 32

/** Codes of reasons as numbers above 0 and as bits. Beyond 31 different ones they are all the same one. */
export class ReasonCodes {
  readonly #numbers = new Map<string, number>()

  numberOf(code: string): number {
    const known = this.#numbers.get(code)
    if (known !== undefined) return known
    const next = Math.min(MAX_CODES, this.#numbers.size + 1)
    if (next < MAX_CODES) this.#numbers.set(code, next)
    return next
  }

  static bitOf(number: number): number {
    return 1 << (number - 1)
  }
}
