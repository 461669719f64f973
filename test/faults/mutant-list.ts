export interface Mutant {
  readonly name: string
  readonly file: string
  /** What stands there exactly once, and what takes its place. */
  readonly changes: readonly (readonly [from: string, to: string])[]
  readonly caughtBy: { readonly file: string; readonly test: string }
  readonly needsRoot?: boolean
}

const inFaults = (file: string, test: string): Mutant['caughtBy'] => ({ file: `test/faults/${file}`, test })
const inJournal = (file: string, test: string): Mutant['caughtBy'] => ({ file: `test/journal/${file}`, test })

/** Ways to be wrong that others have been, and that we were not far from. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: 'ack before sync',
    file: 'src/journal/tail.ts',
    changes: [
      [
        '        await this.#file!.sync()\n      } catch (error) {\n        // The kernel',
        '        void this.#file!.sync().catch(() => {})\n      } catch (error) {\n        // The kernel',
      ],
    ],
    caughtBy: inJournal('history.test.ts', 'between power cuts and kills'),
  },
  {
    name: 'no sync at all, and the power is cut',
    file: 'src/journal/tail.ts',
    changes: [
      [
        '        await this.#file!.sync()\n      } catch (error) {\n        // The kernel',
        '      } catch (error) {\n        // The kernel',
      ],
    ],
    caughtBy: inFaults('power-cut.test.ts', 'nothing is lost when the power goes'),
    needsRoot: true,
  },
  {
    name: 'no directory sync',
    file: 'src/journal/tail.ts',
    changes: [['      await files.syncDirectory(directory)\n    } catch (error) {', '    } catch (error) {']],
    caughtBy: inJournal('crash.test.ts', 'journal'),
  },
  {
    name: 'no directory sync after a merge',
    file: 'src/journal/compaction.ts',
    changes: [
      [
        '    await files.rename(temporary, merged.path)\n    await files.syncDirectory(directory)\n',
        '    await files.rename(temporary, merged.path)\n',
      ],
    ],
    caughtBy: inJournal('crash.test.ts', 'journal'),
  },
  {
    name: 'sequence restarts without a new boot',
    file: 'src/node.ts',
    changes: [
      [
        'const boot = surroundings.newId()',
        'const boot = options.dataDir === undefined ? surroundings.newId() : id',
      ],
    ],
    caughtBy: inFaults('data-directories.test.ts', 'rolled back'),
  },
  {
    name: 'what was handled before is forgotten before that is recorded',
    file: 'src/delivery/lanes.ts',
    changes: [
      ['lane.applying === undefined ? applied() : lane.applying.then(applied)', 'Promise.resolve(true)'],
    ],
    caughtBy: inFaults('restarts.test.ts', 'is not run again'),
  },
  {
    name: 'duplicate not re-acked',
    file: 'src/delivery/inbox.ts',
    changes: [
      [
        '    for (const held of unsaid) settlements.say(handledBefore(held), held)\n',
        '    void settlements\n',
      ],
      ["      if (found.state === 'handled') sender.settlements.handled(number, found)\n", ''],
    ],
    caughtBy: inFaults('restarts.test.ts', 'is not run again'),
  },
  {
    name: 'duplicate runs again',
    file: 'src/delivery/inbox.ts',
    changes: [
      [
        "if (found !== undefined && found.state !== 'partial') {",
        "if (found !== undefined && found.state === 'running') {",
      ],
      [
        '    for (const held of unsaid) settlements.say(handledBefore(held), held)\n',
        '    void settlements\n',
      ],
    ],
    caughtBy: inFaults('restarts.test.ts', 'is not run again'),
  },
  {
    name: 'credit as increments that leak',
    file: 'src/delivery/backlog.ts',
    changes: [
      [
        '    if (!this.#places.end(handed) || this.#wasHandled(copy)) return\n    const by = place.member.id\n',
        "    if (handed.isOver) return\n    handed.isOver = true\n    copy.handed = undefined\n    copy.state = 'waiting'\n" +
          '    const by = place.member.id\n',
      ],
    ],
    caughtBy: inFaults('acks.test.ts', 'takes no room for good'),
  },
  {
    name: 'late ack accepted while another hand-over runs',
    file: 'src/delivery/backlog.ts',
    changes: [
      [
        "      if (!isMine && copy.state !== 'waiting') return\n",
        "      if (!isMine && copy.state === 'settled') return\n",
      ],
    ],
    caughtBy: inFaults('acks.test.ts', 'a late success'),
  },
  {
    name: 'ack accepted without hand-over number',
    file: 'src/delivery/backlog.ts',
    changes: [
      [
        '    if (!this.#places.end(handed) || this.#wasHandled(copy)) return\n    const by = place.member.id\n',
        '    if (copy.handed !== undefined) this.#places.end(copy.handed)\n    const by = place.member.id\n',
      ],
    ],
    caughtBy: inFaults('acks.test.ts', 'a late failure'),
  },
  {
    name: 'forgetting by low-water mark',
    file: 'src/delivery/inbox.ts',
    changes: [
      [
        '    const held = found ?? this.#holds.add(peer.id, addressee, handOver)\n',
        '    const marks = ((this as unknown as { marks: Map<string, number> }).marks ??= new Map())\n' +
          '    const mark = marks.get(peer.id) ?? 0\n' +
          '    marks.set(peer.id, Math.max(mark, handOver.sequence))\n' +
          "    if (handOver.sequence < mark) return sender.settlements.say({ kind: 'handled', from: number, count: 1 })\n" +
          '    const held = found ?? this.#holds.add(peer.id, addressee, handOver)\n',
      ],
    ],
    caughtBy: inFaults('acks.test.ts', 'takes no room for good'),
  },
  {
    name: 'ack before the handler',
    file: 'src/delivery/subscription.ts',
    changes: [
      [
        '      result = this.#options.handler!(value, message)\n',
        '      settle?.()\n      result = this.#options.handler!(value, message)\n',
      ],
    ],
    caughtBy: inFaults('receivers.test.ts', 'killed in the middle of its work'),
  },
  {
    name: 'a lost settlement is never said again',
    file: 'src/delivery/inbox.ts',
    changes: [['    sender.settlements.pinged()\n', '']],
    caughtBy: inFaults('networks.test.ts', 'loss, reordering and resets'),
  },
  {
    name: 'torn tail and corruption confused: any hole of the last segment is a torn end',
    file: 'src/journal/survey.ts',
    changes: [
      ['  return scan.holes.find(({ from }) => from >= accepted)?.from', '  return scan.holes[0]?.from'],
    ],
    caughtBy: inJournal('damage.test.ts', 'journal'),
  },
  {
    name: 'torn tail and corruption confused: nothing is torn',
    file: 'src/journal/survey.ts',
    changes: [
      ['isLast && known === undefined ? tornFrom(scan) : undefined', 'undefined as number | undefined'],
    ],
    caughtBy: inJournal('damage.test.ts', 'journal'),
  },
  {
    name: 'failed fsync is tried again',
    file: 'src/journal/tail.ts',
    changes: [
      [
        '        await this.#abandon(sequence, error)\n      }\n    }\n    segments.grow',
        '        await this.#file!.sync().catch(() => this.#abandon(sequence, error))\n      }\n    }\n    segments.grow',
      ],
    ],
    caughtBy: inJournal('faults.test.ts', ''),
  },
  {
    name: 'short write is success',
    file: 'src/journal/files.ts',
    changes: [['      left = behind(left, written)', '      left = []']],
    caughtBy: inJournal('faults.test.ts', ''),
  },
]
