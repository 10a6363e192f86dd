/** Runs all of them, some at a time; after a failure no further one is begun. @throws what the first that failed threw */
export async function inParallel(
  work: IterableIterator<() => Promise<unknown>>,
  atOnce: number,
): Promise<void> {
  let hasFailed = false
  const runSome = async () => {
    for (let next = work.next(); !next.done && !hasFailed; next = work.next()) {
      try {
        await next.value()
      } catch (error) {
        hasFailed = true
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, runSome))
}
