import { messageOf, SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import type { Reader } from '../protocol/bytes.ts'
import { CONTENT } from '../protocol/codec.ts'
import { FRAME } from '../protocol/control-frames.ts'
import { decodeReceived, encodePayload, receivedLocally } from '../protocol/payload.ts'
import { type Payload, type Received, readRecord, writeRecord } from '../protocol/record.ts'
import { validateTopic } from '../protocol/topics.ts'
import { STATUS } from './requests.ts'
import type { Answer, Responders } from './responders.ts'

/** A plain ZeroMQ REQ socket states no deadline. */
const PLAIN_TIMEOUT_MS = 30_000
const MAX_LOAD = 0xffff
const MAX_HELD = 64

interface Asker {
  /** The highest number taken in this boot of the asker: what it sent above that never came. */
  last: number
  /** Answers that found no connection: they wait until the asker lists what it still waits for. */
  readonly held: Map<number, Answer>
  readonly running: Map<number, () => void>
}

export interface AnswersOptions {
  readonly responders: Responders
  readonly maxRequestBytes: number
}

/** Requests as they come from the wire, and the replies to them. */
export class Answers {
  readonly #options: AnswersOptions
  readonly #askers = new Map<Peer, Asker>()

  constructor(options: AnswersOptions) {
    this.#options = options
  }

  /** A request frame: number u32 · timeout u32 · name · record. */
  requested(peer: Peer, reader: Reader): void {
    const number = reader.u32()
    const timeoutMs = reader.u32()
    const name = reader.text8()
    const record = readRecord(reader, reader.frame)
    const asker = this.#asker(peer)
    asker.last = number
    let answered = false
    const cancel = this.#options.responders.ask(name, peer, record, timeoutMs, (answer) => {
      answered = true
      asker.running.delete(number)
      this.#reply(peer, number, answer)
    })
    if (!answered) asker.running.set(number, cancel)
  }

  cancelled(peer: Peer, reader: Reader): void {
    const asker = this.#askers.get(peer)
    const number = reader.u32()
    asker?.running.get(number)?.()
    asker?.running.delete(number)
  }

  /** After a reset the asker lists what it still waits for: whatever does not run here any more is answered now. */
  pending(peer: Peer, reader: Reader): void {
    const asker = this.#asker(peer)
    const held = new Map(asker.held)
    asker.held.clear()
    while (reader.left > 0) {
      const number = reader.u32()
      if (asker.running.has(number)) continue
      const answer = held.get(number)
      if (answer !== undefined) {
        this.#reply(peer, number, answer)
        continue
      }
      const status = isAfter(number, asker.last) ? STATUS.notTaken : STATUS.lost
      this.#refuse(peer, number, status, '', '')
    }
  }

  /** What a plain REQ socket asked: [name, payload], answered by one [status, payload]. */
  plain(frames: Buffer[], answer: (status: string, payload: Buffer) => void): void {
    const name = frames[0]?.toString('utf8') ?? ''
    const failed = (error: SkeinError): void => {
      const status = error.remoteCode ?? error.code
      // A handler's code is its own, but no failure may look like an answer.
      answer(status === 'OK' ? 'ERROR' : status, Buffer.from(error.message))
    }
    let record: Received
    try {
      if (frames.length !== 2)
        throw new SkeinError(
          'MALFORMED',
          `a plain request has the frames [name, payload], not ${frames.length} frames`,
        )
      validateTopic(name)
      record = plainRecord(name, frames[1]!, this.#options.maxRequestBytes)
    } catch (error) {
      failed(error as SkeinError)
      return
    }
    const origin = { id: 'plain', boot: '' }
    this.#options.responders.ask(name, origin, record, PLAIN_TIMEOUT_MS, (result) => {
      if (!result.ok) {
        failed(result.error)
        return
      }
      let reply: Buffer
      try {
        reply = plainReply(result.payload)
      } catch (error) {
        const text = `reply to '${name}': a plain socket gets JSON, which cannot carry it: ${messageOf(error)}`
        failed(new SkeinError('VALUE_UNSUPPORTED', text))
        return
      }
      answer('OK', reply)
    })
  }

  down(peer: Peer): void {
    const asker = this.#askers.get(peer)
    this.#askers.delete(peer)
    for (const cancel of asker?.running.values() ?? []) cancel()
  }

  #asker(peer: Peer): Asker {
    let asker = this.#askers.get(peer)
    if (asker === undefined) {
      asker = { last: 0, held: new Map(), running: new Map() }
      this.#askers.set(peer, asker)
    }
    return asker
  }

  #reply(peer: Peer, number: number, answer: Answer): void {
    // The asker counts the same deadline and needs no word of it.
    if (!answer.ok && answer.error.code === 'REQUEST_TIMEOUT') return
    if (peer.route === undefined || peer.route.lane.isClosed) {
      const held = this.#askers.get(peer)?.held
      if (held !== undefined && held.size < MAX_HELD) held.set(number, answer)
      return
    }
    if (!answer.ok) {
      const { code, remoteCode = code, message } = answer.error
      this.#refuse(peer, number, statusOf(answer.error), remoteCode, message)
      return
    }
    const lane = peer.route?.lane
    if (lane === undefined) return
    if (!lane.hasRoom(answer.payload.sizeBytes)) {
      this.#refuse(peer, number, STATUS.slow, '', '')
      return
    }
    const writer = lane.begin(FRAME.reply, false)
    writer.u32(number)
    writer.u8(STATUS.ok)
    writer.u16(Math.min(MAX_LOAD, this.#options.responders.load))
    writeRecord(writer, answer.payload)
    lane.end(writer)
  }

  #refuse(peer: Peer, number: number, status: number, code: string, text: string): void {
    const lane = peer.route?.lane
    // Nothing more is said to an asker that does not read: its requests end by their deadline.
    if (lane === undefined || !lane.hasRoom(text.length)) return
    const writer = lane.begin(FRAME.reply, false)
    writer.u32(number)
    writer.u8(status)
    writer.u16(Math.min(MAX_LOAD, this.#options.responders.load))
    writer.text8(code)
    writer.text32(text)
    lane.end(writer)
  }
}

const statusOf = (error: SkeinError): number => {
  if (error.code === 'NO_RESPONDER') return STATUS.noResponder
  if (error.code === 'BUSY') return STATUS.busy
  return error.code === 'CLOSED' ? STATUS.closed : STATUS.failed
}

/** Numbers wrap at 32 bits. */
const isAfter = (number: number, last: number): boolean => ((number - last) | 0) > 0

/** Plain payloads have no content type: JSON if it parses, else text, else bytes. */
const plainRecord = (name: string, payload: Buffer, maxBytes: number): Received => {
  const text = payload.toString('utf8')
  let value: unknown = text.includes('\ufffd') ? payload : text
  try {
    value = JSON.parse(text)
  } catch {
    // Not JSON: it stays what it is.
  }
  return receivedLocally(encodePayload(value, undefined, true, maxBytes, () => `plain request '${name}'`))
}

const plainReply = (payload: Payload): Buffer => {
  const received = receivedLocally(payload)
  if (received.content === CONTENT.bytes || received.content === CONTENT.text) return received.frame.bytes
  return Buffer.from(JSON.stringify(decodeReceived(received)) ?? '')
}
