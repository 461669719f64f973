export interface Limits {
  count?: number
  timeoutMs?: number
}

export type Ending = 'count' | 'timeout' | 'stopped'

/** The end of a command that would go on for ever: after so many, after a time, or when it is told to stop. */
export interface Until {
  readonly ended: Promise<Ending>
  /** True if there is room for one more, which is then taken. */
  take: () => boolean
  /** No more will be taken. */
  readonly isFull: boolean
  /** One that was taken is done. */
  done: () => void
}

export const until = ({ count = Number.POSITIVE_INFINITY, timeoutMs }: Limits, stop: AbortSignal): Until => {
  let taken = 0
  let done = 0
  let over = stop.aborted
  let end = (_ending: Ending): void => {}
  const ended = new Promise<Ending>((resolve) => {
    const onStop = (): void => end('stopped')
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => end('timeout'), timeoutMs)
    end = (ending) => {
      over = true
      clearTimeout(timer)
      stop.removeEventListener('abort', onStop)
      resolve(ending)
    }
    stop.addEventListener('abort', onStop)
    if (stop.aborted) onStop()
  })
  return {
    ended,
    get isFull() {
      return over || taken >= count
    },
    take: () => {
      if (over || taken >= count) return false
      taken++
      return true
    },
    done: () => {
      if (++done >= count) end('count')
    },
  }
}
