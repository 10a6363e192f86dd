/**
 * The routes of the Command Center: npm run routes -- list | add | enable | disable
 *
 *   list                          all of them
 *   add --worker W --to TOPIC     a new one: the topic has to be there, with as many partitions as the inbox
 *   enable --worker W             messages for W are forwarded
 *   disable --worker W            they are dead letters from now on, kept as they came: npm run dlq -- redrive
 *                                 --group command-center delivers them once the route is enabled again
 *   --json                        one line of JSON
 *
 * A running Command Center acts on a change within a second.
 */
import { type Config, createKafka } from '../kafkaConfig.ts'
import { ConfigurationError, UnavailableError } from '../lib/errors.ts'
import { addRoute, listRoutes, type Route, switchRoute, WORKER_NAME } from '../lib/routes.ts'
import { fetchTargets } from '../lib/routeTargets.ts'
import { runMain, type Service } from '../lib/service.ts'
import { formatTable } from '../lib/text.ts'

const COMMANDS = ['list', 'add', 'enable', 'disable'] as const
const FLAGS = {
  worker: { type: 'string' },
  to: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

const args = process.argv.slice(2)
const command = args[0]?.startsWith('-') ? undefined : args.shift()

await runMain(
  'routes',
  `Shows and changes the routes of the Command Center: npm run routes -- ${COMMANDS.join(' | ')}`,
  FLAGS,
  async (service, { worker, to, json = false }) => {
    const database = await service.openDatabase(1)
    const sourceTopic = service.config.topics.inbox.name
    const routes = await carryOut()
    process.stdout.write(json ? `${JSON.stringify(routes)}\n` : formatRoutes(routes))

    async function carryOut(): Promise<Route[]> {
      if (command === 'list') return listRoutes(database, sourceTopic)
      if (command === 'add') {
        const route = { sourceTopic, workerName: workerName(), targetTopic: await existing(service, to) }
        return [await addRoute(database, route)]
      }
      if (command === 'enable' || command === 'disable') {
        const isEnabled = command === 'enable'
        return [await switchRoute(database, { sourceTopic, workerName: workerName(), isEnabled })]
      }
      const said = command === undefined ? 'say what to do' : `'${command}' is not known`
      throw new ConfigurationError(`${said}: it takes ${COMMANDS.join(', ')} (see --help)`)
    }

    function workerName(): string {
      if (worker !== undefined && WORKER_NAME.test(worker)) return worker
      throw new ConfigurationError(
        `--worker ${worker ?? ''} is not usable: it takes the name of a worker, in lower case letters, digits and . _ -`,
      )
    }
  },
  args,
)

/** @throws ConfigurationError for a topic that messages cannot be forwarded to */
async function existing({ config, log }: Service, topic: string | undefined): Promise<string> {
  if (topic === undefined) throw new ConfigurationError('--to is missing: it takes the topic to forward to')
  const { products, inbox, hops, deadLetters, retries } = config.topics
  const ours = [products, inbox, hops, ...Object.values(deadLetters), ...Object.values(retries)]
  if (ours.some(({ name }) => name === topic)) {
    throw new ConfigurationError(`--to ${topic} is not usable: nobody reads messages there`)
  }
  const target = (await lookUp(config, log, topic)).get(topic)
  if (!target) throw new ConfigurationError(`--to ${topic} is not usable: there is no such topic`)
  if (target.partitions >= config.partitions) return topic
  throw new ConfigurationError(
    `--to ${topic} is not usable: it has ${target.partitions} partitions and the inbox ${config.partitions}`,
  )
}

async function lookUp(config: Config, log: Service['log'], topic: string) {
  const admin = createKafka(config, 'routes', log).admin()
  try {
    await admin.connect()
    return await fetchTargets(admin, [topic])
  } catch (error) {
    throw new UnavailableError('Kafka', error)
  } finally {
    await admin.disconnect()
  }
}

function formatRoutes(routes: readonly Route[]): string {
  const rows = routes.map(({ routeId, workerName, targetTopic, isEnabled, version }) => [
    String(routeId),
    workerName,
    targetTopic,
    isEnabled ? 'enabled' : 'DISABLED',
    String(version),
  ])
  return formatTable(['route', 'worker', 'target topic', 'state', 'version'], rows, new Set([0, 4]))
}
