/**
 * The fault run (npm run chaos): a pipeline of its own, on its own ports and in a directory of its own, is put under
 * load, and its processes, broker, database and gateway are killed, frozen, slowed down and started again by a schedule
 * that is drawn from a seed. Then it has to drain by a deadline, and tools/verify.ts looks whether each order came to
 * its ends exactly once. Exit status 0 only if so.
 *
 *   --seconds N   how long the load lasts (60)         --rate N      orders per second (100)
 *   --seed N      the same seed, the same schedule (1) --brokers N   1 or 3 (1)
 *   --faults N    how many (one in 3.75 s)             --json        one line of JSON on standard output
 *   --naive       the same against services of the usual kind, without any guarantee (test/naive): to see it fail
 *   --plan        prints the schedule and does nothing
 *   --report FILE writes the report as Markdown        --keep        keeps state and logs also when all went well
 */
import { writeFile } from 'node:fs/promises'
import { CLUSTER_SIZES } from '../infra/kafkaState.ts'
import { parseConfig } from '../kafkaConfig.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { formatReport, formatSchedule } from '../lib/faultReportText.ts'
import { runFaults } from '../lib/faultRun.ts'
import { planFaults } from '../lib/faultSchedule.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { runMain } from '../lib/service.ts'

const FLAGS = {
  seconds: { type: 'string' },
  seed: { type: 'string' },
  faults: { type: 'string' },
  rate: { type: 'string' },
  brokers: { type: 'string' },
  naive: { type: 'boolean' },
  plan: { type: 'boolean' },
  report: { type: 'string' },
  json: { type: 'boolean' },
  keep: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const
const MS_PER_FAULT = 3_750

await runMain(
  'chaos',
  'Puts a pipeline of its own under faults and audits it.',
  FLAGS,
  async (service, flags) => {
    const { log, signal } = service
    const readWhole = (
      flag: 'seconds' | 'seed' | 'faults' | 'brokers' | 'rate',
      fallback: number,
      min: number,
      max: number,
    ) => readNumberFlag(flag, flags[flag] ?? String(fallback), { min, max, isWhole: true })
    const seconds = readWhole('seconds', 60, 10, 86_400)
    const shape = {
      seconds,
      seed: readWhole('seed', 1, 0, 2 ** 32 - 1),
      faults: readWhole('faults', Math.round((seconds * 1_000) / MS_PER_FAULT), 0, seconds),
      brokers: readWhole('brokers', 1, 1, 3),
    }
    if (!CLUSTER_SIZES.includes(shape.brokers)) {
      throw new ConfigurationError(
        `--brokers ${flags.brokers} is not usable: it takes ${CLUSTER_SIZES.join(' or ')}`,
      )
    }
    if (flags.plan) {
      console.log(
        formatSchedule(planFaults({ ...shape, sessionTimeoutMs: parseConfig({}).kafka.sessionTimeoutMs })),
      )
      return
    }
    const report = await runFaults({
      ...shape,
      rate: readWhole('rate', 100, 1, 100_000),
      guarantee: flags.naive ? 'naive' : 'exactly-once',
      keep: flags.keep === true,
      output: process.stderr,
      signal,
      log,
    })
    if (flags.report !== undefined) await writeFile(flags.report, formatReport(report))
    console.log(flags.json ? JSON.stringify(report) : formatReport(report))
    if (!report.ok) process.exitCode = 1
  },
)
