/**
 * Sends one request to any worker by way of the Command Center, and tells what becomes of it, hop by hop:
 *
 *   npm run send -- --worker fraud --file examples/requests/fraud.json
 *
 *   --worker W    a judge alone (inventory, payment, fraud, pricing), judges (all of them, and the decision), validator
 *                 (an order as it is placed, and all that follows), or any other name that has a route
 *   --file F      the event, in JSON: OrderPlaced for validator, OrderValidated for judges
 *   --keep-id     with the order id, event id and time that the file has; else each request gets its own
 *   --timeout S   how many seconds to wait for all answers (30)
 *   --json        one line of JSON at the end
 *
 * The times printed are those from sending until the message was forwarded, or the answer was. What a judge alone did
 * for the request is taken back: no stock stays reserved, no money authorised. What goes to `judges` or `validator` is an
 * order like any other, and is carried out.
 *
 * Needs ROUTING=command-center and the keys of the services. Exit status: 0 when all answers came, 1 when not.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { ConfigurationError, describe } from '../lib/errors.ts'
import type { KeyRing } from '../lib/keyRing.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { WORKER_NAME } from '../lib/routes.ts'
import { formatEnd, formatStep, toJson } from '../lib/sendDisplay.ts'
import { sendRequest } from '../lib/sending.ts'
import { parseRequest } from '../lib/sendRequest.ts'
import { runMain } from '../lib/service.ts'

const FLAGS = {
  worker: { type: 'string' },
  file: { type: 'string' },
  'keep-id': { type: 'boolean' },
  timeout: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

await runMain(
  'send',
  'Sends one request to a worker: npm run send -- --worker W --file F',
  FLAGS,
  async ({ config, log, signal }, values) => {
    const keys = requireKeys(config)
    const worker = requireWorker(values.worker)
    const timeoutMs =
      readNumberFlag('timeout', values.timeout ?? '30', { min: 1, max: 3_600, isWhole: false }) * 1_000
    const request = readRequest(values.file, worker, values['keep-id'] === true)
    // Whoever read what we print has gone (`| head`): what was done is still to be taken back.
    process.stdout.on('error', () => undefined)
    if (!values.json) console.log(`request ${request.orderId} to ${worker}`)
    const result = await sendRequest({
      createKafka: (purpose) => createKafka(config, `send-${purpose}`, log),
      topics: config.topics,
      ...{ keys, worker, request, timeoutMs, log, signal },
      onStep: (step, sentAtMs) => values.json || console.log(formatStep(step, sentAtMs)),
    })
    const isAllThere = result.missing.length === 0 && !result.refused
    if (!isAllThere) process.exitCode = 1
    const end = formatEnd(result)
    if (!isAllThere) console.error(`send: ${end}`)
    const line = values.json ? JSON.stringify(toJson(result)) : isAllThere ? end : ''
    // Waits until it is out: the end of the process does not.
    if (line) await new Promise<void>((resolve) => process.stdout.write(`${line}\n`, () => resolve()))
  },
)

function requireKeys({ topics, keys }: Config): KeyRing {
  if (topics.isRouted) return keys()
  throw new ConfigurationError(
    'requests go through the Command Center: set ROUTING=command-center, as for the services, with the keys that they have',
  )
}

function requireWorker(worker: string | undefined): string {
  if (worker !== undefined && WORKER_NAME.test(worker)) return worker
  throw new ConfigurationError(
    `--worker ${worker ?? ''} is not usable: it takes inventory, payment, fraud, pricing, judges, validator or another name with a route (npm run routes -- list)`,
  )
}

function readRequest(file: string | undefined, worker: string, keepId: boolean) {
  if (file === undefined) {
    throw new ConfigurationError(
      '--file is missing: it takes a file with the request (see examples/requests)',
    )
  }
  // npm runs in the folder of the project, whichever it was called in.
  const path = resolve(process.env.INIT_CWD ?? '.', file)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConfigurationError(`--file ${file} is not usable: ${describe(error)}`, { cause: error })
  }
  return parseRequest(file, text, { worker, keepId, nowMs: Date.now() })
}
