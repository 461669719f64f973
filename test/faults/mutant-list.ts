export interface Mutant {
  readonly name: string
  readonly file: string
  /** Stands there exactly once. */
  readonly from: string
  readonly to: string
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
    from: '        await this.#file!.sync()\n      } catch (error) {\n        // The kernel',
    to: '        void this.#file!.sync().catch(() => {})\n      } catch (error) {\n        // The kernel',
    caughtBy: inJournal('crash.test.ts', ''),
  },
  {
    name: 'no sync at all, and the power is cut',
    file: 'src/journal/tail.ts',
    from: '        await this.#file!.sync()\n      } catch (error) {\n        // The kernel',
    to: '      } catch (error) {\n        // The kernel',
    caughtBy: inFaults('power-cut.test.ts', 'nothing is lost when the power goes'),
    needsRoot: true,
  },
  {
    name: 'no directory sync',
    file: 'src/journal/tail.ts',
    from: '      await files.syncDirectory(directory)\n    } catch (error) {',
    to: '    } catch (error) {',
    caughtBy: inJournal('crash.test.ts', ''),
  },
  {
    name: 'no directory sync after a merge',
    file: 'src/journal/compaction.ts',
    from: '    await files.rename(temporary, merged.path)\n    await files.syncDirectory(directory)\n',
    to: '    await files.rename(temporary, merged.path)\n',
    caughtBy: inJournal('crash.test.ts', ''),
  },
  {
    name: 'sequence restarts without a new boot',
    file: 'src/node.ts',
    from: 'const boot = surroundings.newId()',
    to: 'const boot = options.dataDir === undefined ? surroundings.newId() : id',
    caughtBy: inFaults('data-directories.test.ts', 'rolled back'),
  },
  {
    name: 'what was handled before is told without its boot',
    file: 'src/delivery/outbox.ts',
    from: 'if (!backlog.takeHandledBefore(sequence) || loaded?.envelope.boot !== boot) return',
    to: 'if (!backlog.takeHandledBefore(sequence) || loaded === undefined) return',
    caughtBy: inFaults('data-directories.test.ts', 'rolled back'),
  },
  {
    name: 'what was handled before is forgotten before that is recorded',
    file: 'src/delivery/lanes.ts',
    from: 'lane.applying === undefined ? applied() : lane.applying.then(applied)',
    to: 'Promise.resolve(true)',
    caughtBy: inFaults('restarts.test.ts', 'is not run again'),
  },
  {
    name: 'duplicate not re-acked',
    file: 'src/delivery/inbox.ts',
    from: '    for (const held of unsaid) settlements.say(handledBefore(held), held)\n',
    to: '    void settlements\n',
    caughtBy: inFaults('restarts.test.ts', 'is not run again'),
  },
  {
    name: 'duplicate runs again',
    file: 'src/delivery/inbox.ts',
    from: "if (found !== undefined && found.state !== 'partial') {",
    to: "if (found !== undefined && found.state === 'running') {",
    caughtBy: inFaults('networks.test.ts', 'loss, reordering and resets'),
  },
  {
    name: 'credit as increments that leak',
    file: 'src/delivery/backlog.ts',
    from: '    if (!this.#end(handed)) return\n    switch (verdict.kind) {',
    to:
      "    if (handed.isOver) return\n    handed.isOver = true\n    copy.handed = undefined\n    copy.state = 'waiting'\n" +
      '    this.#inHand.delete(copy)\n    switch (verdict.kind) {',
    caughtBy: inFaults('acks.test.ts', 'takes no room for good'),
  },
  {
    name: 'late ack accepted while another hand-over runs',
    file: 'src/delivery/backlog.ts',
    from: "      if (!isMine && copy.state !== 'waiting') return\n",
    to: "      if (!isMine && copy.state === 'settled') return\n",
    caughtBy: inFaults('acks.test.ts', 'a late success'),
  },
  {
    name: 'ack accepted without hand-over number',
    file: 'src/delivery/backlog.ts',
    from: '    if (!this.#end(handed)) return\n    switch (verdict.kind) {',
    to: '    if (copy.handed !== undefined) this.#end(copy.handed)\n    switch (verdict.kind) {',
    caughtBy: inFaults('acks.test.ts', 'a late failure'),
  },
  {
    name: 'forgetting by low-water mark',
    file: 'src/delivery/inbox.ts',
    from: '    const held = found ?? this.#holds.add(peer.id, addressee, owed)\n',
    to:
      '    const marks = ((this as unknown as { marks: Map<string, number> }).marks ??= new Map())\n' +
      '    const mark = marks.get(peer.id) ?? 0\n' +
      '    marks.set(peer.id, Math.max(mark, owed.sequence))\n' +
      "    if (owed.sequence < mark) return sender.settlements.say({ kind: 'handled', from: number, count: 1 })\n" +
      '    const held = found ?? this.#holds.add(peer.id, addressee, owed)\n',
    caughtBy: inFaults('acks.test.ts', 'takes no room for good'),
  },
  {
    name: 'ack before the handler',
    file: 'src/delivery/subscription.ts',
    from: '      result = this.#options.handler!(value, message)\n',
    to: '      settle?.()\n      result = this.#options.handler!(value, message)\n',
    caughtBy: inFaults('receivers.test.ts', 'a job that kills its worker'),
  },
  {
    name: 'a lost settlement is never said again',
    file: 'src/delivery/inbox.ts',
    from: '    sender.settlements.pinged()\n',
    to: '',
    caughtBy: inFaults('networks.test.ts', 'loss, reordering and resets'),
  },
  {
    name: 'torn tail and corruption confused: any hole of the last segment is a torn end',
    file: 'src/journal/survey.ts',
    from: '  return scan.holes.find(({ from }) => from >= accepted)?.from',
    to: '  return scan.holes[0]?.from',
    caughtBy: inJournal('damage.test.ts', ''),
  },
  {
    name: 'torn tail and corruption confused: nothing is torn',
    file: 'src/journal/survey.ts',
    from: 'isLast && known === undefined ? tornFrom(scan) : undefined',
    to: 'undefined as number | undefined',
    caughtBy: inJournal('damage.test.ts', ''),
  },
  {
    name: 'failed fsync is tried again',
    file: 'src/journal/tail.ts',
    from: '        await this.#abandon(sequence, error)\n      }\n    }\n    segments.grow',
    to: '        await this.#file!.sync().catch(() => this.#abandon(sequence, error))\n      }\n    }\n    segments.grow',
    caughtBy: inJournal('faults.test.ts', ''),
  },
  {
    name: 'short write is success',
    file: 'src/journal/files.ts',
    from: '      left = behind(left, written)',
    to: '      left = []',
    caughtBy: inJournal('faults.test.ts', ''),
  },
]
