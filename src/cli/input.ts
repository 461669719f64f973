import { fstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { buffer } from 'node:stream/consumers'
import { CliError, EXIT } from './exit.ts'

export interface PayloadOptions {
  raw?: boolean
  json?: boolean
  file?: string
}

/** How a payload is read: as it is, as JSON and nothing else, or as JSON if it parses. */
type Reading = Pick<PayloadOptions, 'raw' | 'json'>

/** What was typed or one line of stdin: JSON if it parses, else text; with `raw` always text. */
export const parseText = (text: string, raw = false): unknown => {
  if (raw) return text
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true })

/** A file, the whole of stdin, a command's output: JSON, else text without its last newline, else bytes; with `raw` always bytes. */
export const parseBytes = (bytes: Uint8Array, raw = false): unknown => {
  if (raw) return Uint8Array.from(bytes)
  try {
    return parseText(strictUtf8.decode(bytes).replace(/\r?\n$/, ''))
  } catch {
    return Uint8Array.from(bytes)
  }
}

const parseJson = (payload: string | Uint8Array): unknown => {
  try {
    return JSON.parse(typeof payload === 'string' ? payload : strictUtf8.decode(payload)) as unknown
  } catch (error) {
    throw new CliError(
      EXIT.usage,
      `the payload is no JSON, which --json asks for: ${(error as Error).message}; correct it, or leave --json out`,
    )
  }
}

const readText = (text: string, { raw, json }: Reading): unknown =>
  json === true ? parseJson(text) : parseText(text, raw)

const readBytes = (bytes: Uint8Array, { raw, json }: Reading): unknown =>
  json === true ? parseJson(bytes) : parseBytes(bytes, raw)

/** Where the payload of a command comes from. */
export type Source =
  | { from: 'argument'; text: string }
  | { from: 'file'; path: string }
  | { from: 'stdin' }
  | { from: 'nowhere' }

// A pipe, a file or a socket was put there on purpose; a terminal or /dev/null was not.
const stdinIsGiven = (): boolean => {
  try {
    const stat = fstatSync(0)
    return stat.isFIFO() || stat.isFile() || stat.isSocket()
  } catch {
    return false
  }
}

export const sourceOf = (
  argument: string | undefined,
  file: string | undefined,
  isGiven: () => boolean = stdinIsGiven,
): Source => {
  if (argument !== undefined && file !== undefined) {
    throw new CliError(EXIT.usage, `both a payload and --file "${file}" were given: leave one of them out`)
  }
  if (file !== undefined) return { from: 'file', path: file }
  if (argument === '-') return { from: 'stdin' }
  if (argument !== undefined) return { from: 'argument', text: argument }
  return isGiven() ? { from: 'stdin' } : { from: 'nowhere' }
}

const bytesOf = async (path: string): Promise<Uint8Array> => {
  try {
    return await readFile(path)
  } catch (error) {
    throw new CliError(
      EXIT.error,
      `the payload file "${path}" could not be read: ${(error as Error).message}`,
    )
  }
}

/** The one payload of a command that takes one; all of stdin. */
export const readPayload = async (source: Source, reading: Reading): Promise<unknown> => {
  switch (source.from) {
    case 'argument':
      return readText(source.text, reading)
    case 'file':
      return readBytes(await bytesOf(source.path), reading)
    case 'nowhere':
      return undefined
    case 'stdin': {
      const bytes = await buffer(process.stdin)
      return bytes.length === 0 ? undefined : readBytes(bytes, reading)
    }
  }
}

/**
 * A payload for each message: each line of stdin up to `count`, or the one that was given, `count` times. A line that
 * cannot be read fails alone, when it is taken.
 */
export async function* readPayloads(
  source: Source,
  { count, stop, ...reading }: Reading & { count?: number; stop: AbortSignal },
): AsyncGenerator<() => unknown> {
  if (source.from !== 'stdin') {
    const value = await readPayload(source, reading)
    for (let left = count ?? 1; left > 0; left--) yield () => value
    return
  }
  let left = count ?? Number.POSITIVE_INFINITY
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY, signal: stop })
  try {
    for await (const line of lines) {
      yield () => readText(line, reading)
      if (--left <= 0) return
    }
  } finally {
    lines.close()
    process.stdin.destroy()
  }
}
