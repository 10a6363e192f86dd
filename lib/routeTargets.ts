import kafkajs, { type Admin } from 'kafkajs'

/** What has to be known of a topic before anything is forwarded to it. */
export interface RouteTarget {
  partitions: number
  maxMessageBytes: number
  /** It takes no record without a key. */
  isCompacted: boolean
}

/** Those of the topics that exist. @throws what kafkajs throws when the cluster does not answer */
export async function fetchTargets(
  admin: Admin,
  topics: readonly string[],
): Promise<Map<string, RouteTarget>> {
  const existing = new Set(await admin.listTopics())
  const names = [...new Set(topics)].filter((name) => existing.has(name))
  if (names.length === 0) return new Map()
  const { topics: metadata } = await admin.fetchTopicMetadata({ topics: names })
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: names.map((name) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name,
      configNames: ['max.message.bytes', 'cleanup.policy'],
    })),
  })
  const settings = new Map(
    resources.map(({ resourceName, configEntries }) => [
      resourceName,
      new Map(configEntries.map(({ configName, configValue }) => [configName, configValue])),
    ]),
  )
  return new Map(
    metadata.map(({ name, partitions }) => [
      name,
      {
        partitions: partitions.length,
        maxMessageBytes: Number(settings.get(name)?.get('max.message.bytes')),
        isCompacted: settings.get(name)?.get('cleanup.policy')?.includes('compact') === true,
      },
    ]),
  )
}
