const FIRST_ARENA_BYTES = 1 << 20
const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/**
 * Numbers order ids from 0 on, as they come. Millions of strings in a Map would keep the garbage collector busy for
 * longer than the audit takes; here their bytes lie one after another in one buffer, and an open-addressed table
 * of numbers, hashed by FNV-1a (Fowler, Noll, Vo), finds them.
 */
export class OrderIds {
  #bytes = Buffer.allocUnsafe(FIRST_ARENA_BYTES)
  /** Where the bytes of each id end. */
  #ends: Uint32Array
  /** Number of an id + 1, by hash; 0 is free. At most half full. */
  #slots: Int32Array
  #size = 0

  /** @param expected how many there may be; more only cost a little time */
  constructor(expected: number) {
    let slots = 1_024
    while (slots < expected * 2) slots *= 2
    this.#slots = new Int32Array(slots)
    this.#ends = new Uint32Array(slots / 2)
  }

  get size(): number {
    return this.#size
  }

  /** The number of an id, which is a new one if it was never seen. */
  numberOf(id: Uint8Array): number {
    const slot = this.#findSlot(id)
    const found = this.#slots[slot]!
    if (found > 0) return found - 1
    this.#append(id)
    this.#slots[slot] = this.#size
    if (this.#size * 2 >= this.#slots.length) this.#rehash()
    return this.#size - 1
  }

  text(number: number): string {
    return this.#bytes.toString('utf8', this.#startOf(number), this.#ends[number])
  }

  #findSlot(id: Uint8Array): number {
    const mask = this.#slots.length - 1
    let slot = hash(id, 0, id.length) & mask
    for (let entry = this.#slots[slot]!; entry > 0; entry = this.#slots[slot]!) {
      if (this.#isAt(entry - 1, id)) break
      slot = (slot + 1) & mask
    }
    return slot
  }

  #isAt(number: number, id: Uint8Array): boolean {
    const start = this.#startOf(number)
    if (this.#ends[number]! - start !== id.length) return false
    for (let index = 0; index < id.length; index++) {
      if (this.#bytes[start + index] !== id[index]) return false
    }
    return true
  }

  #startOf(number: number): number {
    return number === 0 ? 0 : this.#ends[number - 1]!
  }

  #append(id: Uint8Array): void {
    const start = this.#startOf(this.#size)
    const end = start + id.length
    if (end > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, this.#bytes.length * 2))
      this.#bytes.copy(larger, 0, 0, start)
      this.#bytes = larger
    }
    this.#bytes.set(id, start)
    this.#ends[this.#size++] = end
  }

  #rehash(): void {
    this.#slots = new Int32Array(this.#slots.length * 2)
    this.#ends = grown(this.#ends, this.#slots.length / 2)
    const mask = this.#slots.length - 1
    for (let number = 0; number < this.#size; number++) {
      let slot = hash(this.#bytes, this.#startOf(number), this.#ends[number]!) & mask
      while (this.#slots[slot]! > 0) slot = (slot + 1) & mask
      this.#slots[slot] = number + 1
    }
  }
}

function hash(bytes: Uint8Array, start: number, end: number): number {
  let code = FNV_OFFSET
  for (let index = start; index < end; index++) code = Math.imul(code ^ bytes[index]!, FNV_PRIME)
  // Its low bits alone choose the slot, and the last byte would reach few others.
  return code ^ (code >>> 15)
}

export type Column = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array

/** The same column with more room, filled up with zeros. */
export function grown<Kind extends Column>(column: Kind, length: number): Kind {
  const larger = new (column.constructor as new (length: number) => Kind)(length)
  larger.set(column)
  return larger
}
