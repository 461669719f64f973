// The history of a run: what this process sees happen, written before it goes on, so that it outlives a kill -9.
import { openSync, writeSync } from 'node:fs'

/**
 * @param {string} path
 * @param {string} role
 */
export const recorder = (path, role) => {
  const file = openSync(path, 'a')
  const at = () => Number(process.hrtime.bigint()) / 1e6
  /** @param {readonly object[]} events */
  const record = (...events) => {
    writeSync(file, events.map((event) => `${JSON.stringify({ at: at(), ...event })}\n`).join(''))
  }
  record({ kind: 'start', pid: process.pid, role })
  return record
}
