// deploy/ with the real Prometheus: configuration and rules, and what they and the dashboard ask, of a pipeline that runs.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { run } from '../infra/serverProcess.ts'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { readInstances } from '../lib/instances.ts'
import { runScript, testEnvironment, until } from './harness.ts'
import {
  DEPLOY,
  findPrometheus,
  NO_PROMETHEUS,
  type Prometheus,
  startPrometheus,
} from './prometheusServer.ts'

const programs = await findPrometheus()
const skip = programs ? false : NO_PROMETHEUS
const PROMETHEUS = join(DEPLOY, 'prometheus')

/**
 * Enough for all that the dashboard shows, and what they are called. The judges are left out but for payment, which brings a
 * gateway along: fulfilment gives the orders up after a second.
 */
const SCRIPTS = {
  validator: 'validator',
  paymentService: 'payment',
  fulfilmentService: 'fulfilment',
  orderView: 'order-view',
  analytics: 'analytics',
  api: 'api',
  producer: 'producer',
}
/** What has more series than that has a label without bound. */
const MOST_SERIES = 1_000
/** Every label that is known: none is an id, a path or a text that somebody else chooses. */
const LABELS = [
  ...['__name__', 'job', 'instance', 'service', 'le', 'alertname', 'alertstate', 'severity', 'unit'],
  ...['topic', 'partition', 'result', 'operation', 'method', 'route', 'status', 'end'],
  // Of prom-client's own metrics.
  ...['space', 'kind', 'type', 'version', 'major', 'minor', 'patch'],
]
/** Added by Prometheus. */
const OF_TARGETS = ['__name__', 'job', 'instance', 'service', 'le']

interface Rule {
  alert?: string
  expr: string
}

test('the configuration and the rules are valid, and each alert comes when it should and only then', {
  skip,
}, async () => {
  for (const args of [
    ['check', 'config', join(PROMETHEUS, 'prometheus.yml')],
    ['check', 'rules', join(PROMETHEUS, 'alerts.yml')],
    ['test', 'rules', join(PROMETHEUS, 'alerts.test.yml')],
  ]) {
    const { status, stdout, stderr } = await run(programs!.promtool, args)
    assert.equal(status, 0, `promtool ${args.join(' ')}:\n${stdout}${stderr}`)
  }
  const tests = await readFile(join(PROMETHEUS, 'alerts.test.yml'), 'utf8')
  for (const { alert } of await readAlerts()) {
    assert.ok(tests.includes(`alertname="${alert}"`), `${alert} is not tested`)
  }
})

test('Prometheus finds a running pipeline, has an answer to every question, and misses who is killed', {
  skip,
}, async (t) => {
  const env = await testEnvironment(t, { DECISION_TIMEOUT_MS: '1000', ORDERS_PER_SECOND: '40' })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  // One that traces, so that what is only then counted is there; there need not be a collector.
  const settings: Record<string, Record<string, string>> = {
    api: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' },
  }
  const scripts = new Map(
    Object.keys(SCRIPTS).map((name) => [name, runScript(t, name, { ...env, ...settings[name] })]),
  )
  const prometheus = await startPrometheus(t, programs!, config.instancesDir)
  const isUp = async (service: string) =>
    (await prometheus.query(`up{service="${service}"} == 1`)).length === 1
  for (const service of Object.values(SCRIPTS)) await until(`${service} is up`, () => isUp(service))
  const apiUrl = /listening on (\S+),/.exec(scripts.get('api')!.lines.join('\n'))?.[1]
  assert.equal((await fetch(`${apiUrl}/products`)).status, 200)

  await t.test('every panel of the dashboard has data', () => checkPanels(prometheus))
  await t.test('every alert asks for what is there', () => checkAlerts(prometheus))
  await t.test('names are as Prometheus wants them', () => checkNames(config.instancesDir))
  await t.test('no label is without bound', () => checkLabels(prometheus))
  await t.test('the docs say of every metric what it is', () => checkDocs(prometheus))
  await t.test('who is killed is missed, until it is started again', async () => {
    const isMissed = async () =>
      (await prometheus.alerts()).some(
        ({ labels }) => labels.alertname === 'InstanceGone' && labels.service === 'validator',
      )
    scripts.get('validator')!.child.kill('SIGKILL')
    await until('it is missed', isMissed)
    const [shown] = (await readPanels()).filter(({ title }) => title === 'Alerts')
    await until('the dashboard says so', async () =>
      (await prometheus.query(shown!.expr)).some(({ metric }) => metric.alertname === 'InstanceGone'),
    )
    runScript(t, 'validator', env)
    await until('it is up again', async () => (await isUp('validator')) && !(await isMissed()))
  })
})

/** All but that of the alerts, which is empty while there are none; and the figures of the orders are more than nothing. */
async function checkPanels({ query }: Prometheus): Promise<void> {
  const panels = await readPanels()
  for (const { title, expr } of panels) {
    if (title === 'Alerts') await query(expr)
    else await until(`the panel ${title} has data: ${expr}`, async () => (await query(expr)).length > 0)
  }
  const figures = panels.slice(
    0,
    panels.findIndex(({ title }) => title === 'Processes gone'),
  )
  assert.equal(figures.length, 4)
  for (const { title, expr } of figures) {
    await until(`the panel ${title} shows orders`, async () => Number((await query(expr))[0]?.value[1]) > 0)
  }
}

async function checkAlerts({ query, ask }: Prometheus): Promise<void> {
  for (const { alert, expr } of await readAlerts()) {
    const asked = withoutThresholds(expr)
    await until(`${alert} has something to look at: ${asked}`, async () => (await query(asked)).length > 0)
  }
  const { groups } = await ask<{ groups: { rules: { name: string; health: string }[] }[] }>('rules')
  for (const { name, health } of groups.flatMap(({ rules }) => rules)) assert.equal(health, 'ok', name)
}

/** An expression that has an answer if there are the figures that an alert compares or misses, whatever they are. */
function withoutThresholds(expr: string): string {
  return expr
    .replace(/^absent\((.+)\)$/, '$1')
    .replace(/ (?:==|>|<) /g, ' >= bool -Inf * ')
    .replaceAll(' unless ', ' and ')
    .replaceAll('offset 1h', 'offset 1s')
}

async function checkNames(instancesDir: string): Promise<void> {
  for (const { service, url } of readInstances(instancesDir)) {
    const input = await (await fetch(`${url}/metrics`)).text()
    const check = spawnSync(programs!.promtool, ['check', 'metrics'], { input, encoding: 'utf8' })
    assert.equal(check.status, 0, `${service}:\n${check.stdout}${check.stderr}`)
  }
}

async function checkLabels({ query, ask }: Prometheus): Promise<void> {
  for (const { metric, value } of await query('scrape_samples_scraped')) {
    assert.ok(Number(value[1]) < MOST_SERIES, `${metric.service} has ${value[1]} series`)
  }
  const labels = await ask<string[]>('labels')
  const unknown = labels.filter((label) => !LABELS.includes(label))
  assert.deepEqual(unknown, [])
}

async function checkDocs({ query, ask }: Prometheus): Promise<void> {
  const metadata = await ask<Record<string, { type: string }[]>>('metadata')
  const ours = Object.entries(metadata).filter(([name]) => !/^(process|nodejs)_/.test(name))
  const documented = await readDocumented()
  assert.deepEqual(
    ours.map(([name, [about]]) => [name, about?.type]).sort(),
    documented.map(({ name, type }) => [name, type]).sort(),
  )
  for (const { name, type, labels } of documented) {
    const series = await query(type === 'histogram' ? `${name}_bucket` : name)
    const used = new Set(series.flatMap(({ metric }) => Object.keys(metric)))
    for (const label of OF_TARGETS) used.delete(label)
    assert.deepEqual([...used].sort(), labels.sort(), name)
  }
}

/** The rows of the tables in docs/METRICS.md, but for the Command Center's, which does not run here. */
async function readDocumented(): Promise<{ name: string; type: string; labels: string[] }[]> {
  const text = await readFile(new URL('../docs/METRICS.md', import.meta.url), 'utf8')
  return [...text.matchAll(/^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*?) ?\| /gm)]
    .map(([, name, type, labels]) => ({
      name: name!,
      type: type!,
      labels: labels!.split(', ').filter(Boolean),
    }))
    .filter(({ name }) => !name.startsWith('command_center_'))
}

/** The questions of the dashboard, as Grafana would ask them over the last minute and for all services. */
async function readPanels(): Promise<{ title: string; expr: string }[]> {
  const text = await readFile(join(DEPLOY, 'grafana/dashboards/order-pipeline.json'), 'utf8')
  const { panels } = JSON.parse(text) as { panels: { title: string; targets?: { expr: string }[] }[] }
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      title,
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$service', '.+'),
    })),
  )
}

async function readAlerts(): Promise<Rule[]> {
  const { groups } = parse(await readFile(join(PROMETHEUS, 'alerts.yml'), 'utf8'))
  return (groups as { rules: Rule[] }[])
    .flatMap(({ rules }) => rules)
    .filter(({ alert }) => alert !== undefined)
}
