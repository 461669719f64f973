import { expect, test } from 'vitest'
import type { SkeinError } from '../../src/errors.ts'
import { Greeter, type GreeterOptions } from '../../src/peers/greeter.ts'
import { Writer } from '../../src/protocol/bytes.ts'
import { FRAME, type Hello, writeHello } from '../../src/protocol/control-frames.ts'
import { KIND, newId, writePrefix } from '../../src/protocol/header.ts'
import { FakeClock } from '../support/fake-clock.ts'

const ID = 'a'.repeat(32)

const helloOf = (boot: string): Hello => ({
  ...{ mesh: 'default', id: ID, boot, name: 'claimant', number: 1, address: null },
  ...{ token: '', taken: 0, known: 0, unreachable: '' },
  interest: { revision: 0, patterns: [], responders: [], services: [] },
})

const batchOf = (hellos: readonly Hello[]): Buffer => {
  const batch = new Writer()
  writePrefix(batch, KIND.control)
  batch.u32(1)
  for (const hello of hellos) {
    const body = new Writer()
    writeHello(body, hello)
    batch.u8(FRAME.hello)
    batch.u32(body.length)
    batch.bytes(body.take())
  }
  return batch.take()
}

test('greeter - who claims the id of this node a thousand times is refused each time, and the operator is told once a second', async () => {
  const clock = new FakeClock()
  const answers: Buffer[] = []
  const warnings: SkeinError[] = []
  const options: Partial<GreeterOptions> = {
    ...{ id: ID, boot: newId(), name: 'holder', mesh: 'default', clock },
    transport: {
      answer: async (_: string, batch: Buffer) => {
        answers.push(batch)
        return 'sent'
      },
    } as unknown as GreeterOptions['transport'],
    warning: (error) => void warnings.push(error),
  }
  const greeter = new Greeter(options as GreeterOptions)
  const thousand = batchOf(Array.from({ length: 1000 }, () => helloOf(newId())))
  greeter.control('key', thousand)
  expect(answers).toHaveLength(1000)
  expect(warnings.map(({ code }) => code)).toEqual(['NODE_ID_IN_USE'])
  await clock.advance(1000)
  greeter.control('key', thousand)
  expect(answers).toHaveLength(2000)
  expect(warnings).toHaveLength(2)
})
