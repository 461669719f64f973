import type { Announcement, Findings, Outcome, Sighting, Source } from './discovery.ts'

/** All the sources of a node as one: each tells what it finds, none waits for another. */
export class Sources {
  readonly #sources: readonly Source[]

  constructor(sources: readonly Source[]) {
    this.#sources = sources
  }

  get isSettled(): boolean {
    return this.#sources.every(({ isSettled }) => isSettled ?? true)
  }

  async start(self: Announcement | null, on: Findings): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.start(self, on)))
  }

  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void {
    for (const source of this.#sources) {
      if (source.name === sighting.source) source.tried?.(sighting, endpoint, outcome)
    }
  }

  moved(self: Announcement | null): void {
    for (const source of this.#sources) source.moved?.(self)
  }

  async close(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.close()))
  }
}
