/** As much of autocannon as bench/api.ts uses; it comes without types. */
declare module 'autocannon' {
  interface Request {
    method: string
    path: string
    headers: Record<string, string>
    body: string
    setupRequest?(request: Request): Request
    onResponse?(status: number, body: string): void
  }
  interface Result {
    requests: { total: number; average: number }
    latency: { p50: number; p99: number; max: number }
    duration: number
    errors: number
    timeouts: number
    non2xx: number
    '2xx': number
  }
  export default function autocannon(options: {
    url: string
    connections: number
    duration: number
    requests: Request[]
  }): Promise<Result>
}
