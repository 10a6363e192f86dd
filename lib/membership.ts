import { untilAborted } from './async.ts'
import type { Member } from './transaction.ts'

/** What this process is in its group: told of by the consumer, asked by the tasks and by whoever commits for them. */
export class Membership {
  #member: Member | undefined
  #writers: ReadonlySet<string> = new Set()
  #isOver = false
  /** Replaced each time that the group has spoken. */
  #confirmed = createSignal()
  /** Replaced with each assignment of partitions. */
  #changed = createSignal()

  get member(): Member | undefined {
    return this.#member
  }

  /**
   * Whether partitions that this member has and had before were its own all the time in between. Not so when it was
   * thrown out of the group and joined anew, nor when a generation passed of which it has heard nothing, because its sync
   * failed: others may have been given their share of that one, have worked on it and committed.
   */
  isContinuedBy({ memberId, generationId }: Member): boolean {
    return memberId === this.#member?.memberId && generationId - this.#member.generationId <= 1
  }

  /** Whether this transactional id is that of a member of the group. */
  isWriter(id: string): boolean {
    return this.#writers.has(id)
  }

  /**
   * The group has handed out partitions.
   *
   * @param writers the transactional ids of all its members
   */
  join(member: Member, writers: readonly string[]): void {
    this.#member = member
    this.#writers = new Set(writers)
    this.#isOver = false
    this.#changed.give()
    this.#changed = createSignal()
    this.confirm()
  }

  /** The group has said that this is still a member. */
  confirm(): void {
    this.#confirmed.give()
    this.#confirmed = createSignal()
  }

  /** There will be no other assignment for this member; what it has in hand may still be committed. */
  end(): void {
    this.#isOver = true
    this.#changed.give()
  }

  /** What was in hand is done with. */
  forget(): void {
    this.#member = undefined
  }

  /** Resolves when the group has confirmed it after this call, or on the signal. */
  async confirmed(signal: AbortSignal): Promise<void> {
    await untilAborted(this.#confirmed.given, signal)
  }

  /** Waits for the assignment that follows. @returns false when there will be none */
  async changedFrom(member: Member | undefined): Promise<boolean> {
    if (this.#member === member && !this.#isOver) await this.#changed.given
    return this.#member !== member
  }
}

interface Signal {
  given: Promise<void>
  give(): void
}

function createSignal(): Signal {
  let give!: () => void
  const given = new Promise<void>((resolve) => {
    give = resolve
  })
  return { given, give }
}
