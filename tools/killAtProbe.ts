/**
 * Loaded into a service by the fault run (node --import): told so by its parent, it kills its own process at the
 * moment named, as hard as can be. See lib/probes.ts for the moments.
 */
import { subscribe } from 'node:diagnostics_channel'
import { channelOf, type Probe } from '../lib/probes.ts'

export interface KillOrder {
  killAt: Probe
  /** At the how manieth time that it comes by, from 1. */
  passes: number
}

process.on('message', ({ killAt, passes }: KillOrder) => {
  let left = passes
  subscribe(channelOf(killAt), () => {
    // Of oneself it takes effect before the call returns: nothing that comes after the moment happens.
    if (--left === 0) process.kill(process.pid, 'SIGKILL')
  })
})
