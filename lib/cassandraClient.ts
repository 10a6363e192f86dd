import cassandra, { type Client } from 'cassandra-driver'
import type { Config } from '../kafkaConfig.ts'

const { DefaultLoadBalancingPolicy } = cassandra.policies.loadBalancing

/** Connects when it is first used. */
export function createClient(settings: Config['metadataLog']['cassandra']): Client {
  return new cassandra.Client({
    contactPoints: settings.contactPoints,
    // Servers tell each other's addresses without a port; by default it is taken to be 9042.
    protocolOptions: { port: Number(settings.contactPoints[0]?.split(':').at(-1)) },
    queryOptions: {
      consistency: cassandra.types.consistencies.localQuorum,
      isIdempotent: true,
      prepare: true,
    },
    policies: {
      // Given as an option of its own, a wrong one leaves a connection behind that nobody can close.
      loadBalancing: new DefaultLoadBalancingPolicy({ localDc: settings.dataCenter }),
    },
    monitorReporting: { enabled: false },
  })
}

/** What each server said. The driver's own sentence for all of them has the stack of one in it. */
export function causesOf(error: cassandra.errors.DriverError): unknown[] {
  const causes = error instanceof cassandra.errors.NoHostAvailableError ? error.innerErrors : {}
  const found = Object.values(causes ?? {})
  return found.length > 0 ? found : [error]
}
