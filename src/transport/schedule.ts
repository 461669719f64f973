/** What is to be done at some moment. */
export interface Task {
  run(): void
  /** It is not to be done any more. */
  readonly isOver?: boolean
}

interface Moment {
  readonly tasks: Task[]
  next: number
}

/** Below this many, dead tasks cost less than throwing them out. */
const MANY = 1024

/**
 * Tasks by the moment at which they are due, and among equals by the order in which they were added. Moments are in a
 * binary heap, once each: where very many tasks share some moments, most of them are simply put behind one another.
 */
export class Schedule {
  readonly #heap: number[] = []
  readonly #moments = new Map<number, Moment>()
  #size = 0
  #dead = 0

  /** How many tasks are not over. */
  get size(): number {
    return this.#size - this.#dead
  }

  /** When the next one is due; infinite if there is none. */
  get nextAt(): number {
    for (;;) {
      const at = this.#heap[0]
      if (at === undefined) return Number.POSITIVE_INFINITY
      const moment = this.#moments.get(at)!
      while (moment.next < moment.tasks.length) {
        if (!moment.tasks[moment.next]!.isOver) return at
        moment.next++
        this.#size--
        this.#dead--
      }
      this.#moments.delete(at)
      this.#shift()
    }
  }

  add(at: number, task: Task): void {
    this.#size++
    const moment = this.#moments.get(at)
    if (moment !== undefined) {
      moment.tasks.push(task)
      return
    }
    this.#moments.set(at, { tasks: [task], next: 0 })
    this.#rise(at)
  }

  /** The next one, which `nextAt` has shown to exist. */
  take(): Task {
    this.#size--
    const moment = this.#moments.get(this.#heap[0]!)!
    return moment.tasks[moment.next++]!
  }

  /** One of the tasks has become over: the dead are thrown out when they are the most. */
  ended(): void {
    if (++this.#dead < MANY || this.#dead * 2 < this.#size) return
    const moments = [...this.#moments]
    this.#moments.clear()
    this.#heap.length = this.#size = this.#dead = 0
    for (const [at, { tasks, next }] of moments) {
      for (const task of tasks.slice(next)) if (!task.isOver) this.add(at, task)
    }
  }

  #rise(at: number): void {
    const heap = this.#heap
    let index = heap.length
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (heap[parent]! < at) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = at
  }

  #shift(): void {
    const heap = this.#heap
    const at = heap.pop()!
    const { length } = heap
    if (length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= length) break
      if (child + 1 < length && heap[child + 1]! < heap[child]!) child++
      if (heap[child]! > at) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = at
  }
}
