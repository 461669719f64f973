import type { Choose } from './sim-fs.ts'

/** Goes every way that some choices can take, one after the other; answers how many there were. */
export const everyWay = async (
  most: number,
  run: (choose: Choose) => Promise<void> | void,
): Promise<{ ways: number; isComplete: boolean }> => {
  let taken: { way: number; count: number }[] = []
  for (let ways = 1; ; ways++) {
    let depth = 0
    await run((count) => {
      taken[depth] ??= { way: 0, count }
      return taken[depth++]!.way
    })
    taken = taken.slice(0, depth)
    while (taken.length > 0 && taken.at(-1)!.way + 1 === taken.at(-1)!.count) taken.pop()
    if (taken.length === 0) return { ways, isComplete: true }
    if (ways === most) return { ways, isComplete: false }
    taken.at(-1)!.way++
  }
}
