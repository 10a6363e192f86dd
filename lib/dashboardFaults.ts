/** What goes wrong and right again, told by the differences between one look at the pipeline and the next. */
import { type SeenInstance, stateOfOne } from './dashboardInstances.ts'
import type { DashboardFault, DashboardGroup } from './dashboardSnapshot.ts'

/** What is compared with the look before. */
export interface FaultLook {
  atMs: number
  instances: readonly SeenInstance[]
  /** undefined while Kafka does not answer. */
  groups: readonly DashboardGroup[] | undefined
  /** By group, as far as they are counted. */
  deadLetters: Readonly<Record<string, number>>
  /** What is wrong with each; undefined when nothing is. Only those that have been asked. */
  dependencies: Readonly<Record<string, string | undefined>>
}

const MAX_FAULTS = 100
/** A faulty client makes dead letters all the time: one line in so long says how many. */
const DEAD_LETTERS_EVERY_MS = 30_000
/** In these states a group is done with handing out its partitions. */
const SETTLED = ['Stable', 'Empty']

type Tell = Omit<DashboardFault, 'id' | 'atMs'>

/** The last hundred. Who is there at the first look is no news; what is wrong by then, is. */
export class FaultLog {
  readonly #faults: DashboardFault[] = []
  #nextId = 1
  readonly #services = new ServiceChanges()
  readonly #assignments = new Map<string, string>()
  readonly #letters = new Map<string, { told: number; atMs: number }>()
  readonly #away = new Set<string>()

  /** Newest first. */
  get latest(): DashboardFault[] {
    return this.#faults.slice().reverse()
  }

  note(look: FaultLook): void {
    const told = [
      ...this.#services.compare(look.instances),
      ...this.#compareGroups(look.groups ?? []),
      ...this.#compareDeadLetters(look),
      ...this.#compareDependencies(look.dependencies),
    ]
    for (const fault of told) this.#add(look.atMs, fault)
  }

  #add(atMs: number, fault: Tell): void {
    this.#faults.push({ id: this.#nextId++, atMs, ...fault })
    if (this.#faults.length > MAX_FAULTS) this.#faults.shift()
  }

  *#compareGroups(groups: readonly DashboardGroup[]): Iterable<Tell> {
    for (const { group, state, members } of groups) {
      if (!SETTLED.includes(state)) continue
      const assignment = members.map(({ id, partitions }) => `${id}:${partitions.join(' ')}`).sort()
      const before = this.#assignments.get(group)
      this.#assignments.set(group, assignment.join())
      if (before === undefined || before === assignment.join()) continue
      const shares = members.map(({ partitions }) => (partitions.length > 0 ? partitions.join(' ') : 'none'))
      const text =
        shares.length === 0
          ? 'nobody is left in the group'
          : `partitions are shared anew among ${shares.length}: ${shares.sort().join(' | ')}`
      yield { kind: 'rebalance', service: group, text }
    }
  }

  *#compareDeadLetters({ deadLetters, atMs }: FaultLook): Iterable<Tell> {
    for (const [group, count] of Object.entries(deadLetters)) {
      const last = this.#letters.get(group)
      if (last && (count <= last.told || atMs - last.atMs < DEAD_LETTERS_EVERY_MS)) continue
      this.#letters.set(group, { told: count, atMs: last ? atMs : Number.NEGATIVE_INFINITY })
      if (last) {
        const text = `${count - last.told} more in the dead letters, ${count} in all`
        yield { kind: 'dead-letters', service: group, text }
      }
    }
  }

  *#compareDependencies(dependencies: FaultLook['dependencies']): Iterable<Tell> {
    for (const [service, problem] of Object.entries(dependencies)) {
      if (problem !== undefined && !this.#away.has(service)) {
        this.#away.add(service)
        yield { kind: 'unavailable', service, text: problem }
      }
      if (problem === undefined && this.#away.delete(service)) {
        yield { kind: 'available', service, text: 'it answers again' }
      }
    }
  }
}

/** What becomes of the processes of each service. */
class ServiceChanges {
  /** That were there at the last look: service by name. */
  #present = new Map<string, string>()
  readonly #working = new Set<string>()
  #silent = new Set<string>()
  /** How many have gone and have had no successor yet, by service. */
  readonly #missing = new Map<string, number>()
  readonly #paused = new Switches(['paused', 'it was told to pause'], ['resumed', 'it goes on'])
  readonly #open = new Switches(
    ['circuit-open', 'the payment gateway does not answer: requests to it are held back'],
    ['circuit-closed', 'the payment gateway answers again'],
  )

  compare(instances: readonly SeenInstance[]): Tell[] {
    return [
      ...this.#compareGone(instances),
      ...this.#compareBack(instances),
      ...this.#compareSilent(instances),
      ...this.#paused.compare(instances, (seen) => stateOfOne(seen) === 'paused'),
      ...this.#open.compare(instances, ({ figures }) => figures?.breaker === 'open'),
    ]
  }

  *#compareGone(instances: readonly SeenInstance[]): Iterable<Tell> {
    const present = new Map(
      instances.filter(({ state }) => state !== 'gone').map((seen) => [nameOf(seen), seen.instance.service]),
    )
    const listed = new Set(instances.map(nameOf))
    for (const [name, service] of this.#present) {
      if (present.has(name)) continue
      this.#missing.set(service, (this.#missing.get(service) ?? 0) + 1)
      this.#working.delete(name)
      const how = listed.has(name) ? 'is gone, it did not take its leave' : 'has ended'
      yield { kind: 'instance-gone', service, text: `${name} ${how}` }
    }
    this.#present = present
  }

  *#compareBack(instances: readonly SeenInstance[]): Iterable<Tell> {
    for (const seen of instances) {
      const name = nameOf(seen)
      const { service } = seen.instance
      if (this.#working.has(name) || !isWorking(seen)) continue
      this.#working.add(name)
      const missing = this.#missing.get(service) ?? 0
      if (missing === 0) continue
      this.#missing.set(service, missing - 1)
      yield { kind: 'instance-back', service, text: `${name} works in its place` }
    }
  }

  /** One that is gone is not silent any more, and that it is gone is told elsewhere. */
  *#compareSilent(instances: readonly SeenInstance[]): Iterable<Tell> {
    const before = this.#silent
    this.#silent = new Set(instances.filter(({ state }) => state === 'silent').map(nameOf))
    for (const seen of instances) {
      const name = nameOf(seen)
      const { service } = seen.instance
      if (this.#silent.has(name) && !before.has(name)) {
        yield { kind: 'instance-silent', service, text: `${name} is there and does not answer` }
      }
      if (before.has(name) && seen.state === 'alive') {
        yield { kind: 'instance-answers', service, text: `${name} answers again` }
      }
    }
  }
}

/** Something that is on or off in each service. */
class Switches {
  readonly #isOn = new Set<string>()
  readonly #wentOn: readonly [DashboardFault['kind'], string]
  readonly #wentOff: readonly [DashboardFault['kind'], string]

  constructor(wentOn: [DashboardFault['kind'], string], wentOff: [DashboardFault['kind'], string]) {
    this.#wentOn = wentOn
    this.#wentOff = wentOff
  }

  /** A service of which nobody works at present stays as it was: nothing has been switched. */
  compare(instances: readonly SeenInstance[], isOn: (seen: SeenInstance) => boolean): Tell[] {
    const working = instances.filter(isWorking)
    const on = new Set(working.filter(isOn).map(({ instance }) => instance.service))
    const told: Tell[] = []
    for (const service of new Set(working.map(({ instance }) => instance.service))) {
      if (on.has(service) === this.#isOn.has(service)) continue
      const [kind, text] = on.has(service) ? this.#wentOn : this.#wentOff
      if (on.has(service)) this.#isOn.add(service)
      else this.#isOn.delete(service)
      told.push({ kind, service, text })
    }
    return told
  }
}

function isWorking(seen: SeenInstance): boolean {
  return seen.figures !== undefined && ['running', 'paused'].includes(stateOfOne(seen))
}

function nameOf({ instance }: SeenInstance): string {
  return `${instance.service} (process ${instance.pid})`
}
