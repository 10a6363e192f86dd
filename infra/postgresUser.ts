// PostgreSQL refuses to run as root. Where root starts it (containers, many servers), it runs as the user "postgres",
// who is created if missing and must be able to reach both the programs and the data.

import { stat } from 'node:fs/promises'
import { dirname, sep } from 'node:path'
import { InfrastructureError, run } from './serverProcess.ts'

const USER = 'postgres'

export interface PostgresUser {
  readonly userId: number | undefined
  readonly groupId: number | undefined
  /** What a command is put behind so that it runs as this user: empty if spawn's own uid and gid do. */
  readonly prefix: readonly string[]
}

/** The user to run PostgreSQL as, able to enter every directory given. Throws POSTGRES_USER or DIRECTORY_CLOSED. */
export async function postgresUser(directories: readonly string[]): Promise<PostgresUser> {
  if (process.getuid?.() !== 0) return { userId: undefined, groupId: undefined, prefix: [] }
  const { userId, groupId } = (await lookUp()) ?? (await create())
  const closed = await firstClosed(directories, userId, groupId)
  if (closed === undefined) return { userId, groupId, prefix: [] }

  // A checkout below /root, which is closed to others. One capability of root's lets the user pass through.
  const prefix = [
    'setpriv',
    `--reuid=${userId}`,
    `--regid=${groupId}`,
    '--clear-groups',
    '--inh-caps=-all,+dac_override',
    '--ambient-caps=-all,+dac_override',
  ]
  const trial = await run('setpriv', [...prefix.slice(1), 'test', '-r', directories[0] ?? closed]).catch(
    () => undefined,
  )
  if (trial?.status !== 0) {
    throw new InfrastructureError(
      'DIRECTORY_CLOSED',
      `PostgreSQL does not run as root but as the user "${USER}", who may not enter ${closed}: run "chmod o+x ${closed}", move the project elsewhere, or start as another user than root.`,
    )
  }
  return { userId, groupId, prefix }
}

async function lookUp(): Promise<{ userId: number; groupId: number } | undefined> {
  const [user, group] = await Promise.all([run('id', ['-u', USER]), run('id', ['-g', USER])])
  if (user.status !== 0 || group.status !== 0) return undefined
  return { userId: Number(user.stdout), groupId: Number(group.stdout) }
}

async function create(): Promise<{ userId: number; groupId: number }> {
  const made = await run('useradd', ['--system', '--user-group', '--no-create-home', USER]).catch(
    () => undefined,
  )
  const user = await lookUp()
  if (user !== undefined) return user
  throw new InfrastructureError(
    'POSTGRES_USER',
    `PostgreSQL does not run as root and the user "${USER}" could not be created (${made?.stderr.trim() || 'useradd is missing'}): create it, or start as another user than root.`,
  )
}

/** The first directory on the way to any of these that this user may not enter. */
async function firstClosed(directories: readonly string[], userId: number, groupId: number) {
  for (const directory of directories) {
    for (const ancestor of withAncestors(directory)) {
      const { mode, uid, gid } = await stat(ancestor)
      const enterBit = uid === userId ? 0o100 : gid === groupId ? 0o010 : 0o001
      if ((mode & enterBit) === 0) return ancestor
    }
  }
  return undefined
}

/** From the root down. */
function withAncestors(directory: string): string[] {
  return directory === sep || dirname(directory) === directory
    ? [directory]
    : [...withAncestors(dirname(directory)), directory]
}
