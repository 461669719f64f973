// `skein doctor` on networks that are broken in earnest: each host is a network namespace.

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import type { Check } from '../../src/cli/check.ts'
import { type Host, Lab, whyNoNetworks } from '../support/netns.ts'
import type { Member, MemberOptions } from '../support/processes.ts'
import { MAIN } from '../support/skein-cli.ts'

const refusal = whyNoNetworks()
if (refusal !== undefined) console.info(`doctor on networks: skipped, because ${refusal}`)
const scenario = test.skipIf(refusal !== undefined)

const PORT = 7400

const run = promisify(execFile)

const startOn = (host: Host, name: string, options: MemberOptions = {}): Promise<Member> =>
  host.member().start({
    ...{ name, mesh: 'lab', open: true, port: PORT },
    ...options,
    discovery: { registry: false, ...options.discovery },
  })

interface Told {
  exitCode: number
  checks: Check[]
  /** Of one kind, those that are not well before the others. */
  of(check: string): Check[]
}

/** Runs the command on this host, where no file tells of the others. */
const doctorOn = async (host: Host, ...args: readonly string[]): Promise<Told> => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-doctor-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const command = [process.execPath, MAIN, 'doctor', '--json', '--mesh', 'lab', '--open', ...args]
  const ended = await run('ip', host.inside(...command), {
    env: { ...process.env, SKEIN_RUNTIME_DIR: directory },
  }).catch((error: unknown) => error as { code: number; stdout: string })
  const { checks } = JSON.parse(ended.stdout) as { checks: Check[] }
  const of = (kind: string): Check[] => {
    const all = checks.filter(({ check }) => check === kind)
    return [
      ...all.filter(({ verdict }) => verdict !== 'ok'),
      ...all.filter(({ verdict }) => verdict === 'ok'),
    ]
  }
  return { exitCode: 'code' in ended ? ended.code : 0, checks, of }
}

scenario('doctor - a sound network: a node of another host is up both ways, found by mDNS', async () => {
  const lab = await Lab.open(onTestFinished)
  const lan = await lab.lan()
  const [one, two] = [await lab.host(lan), await lab.host(lan)]
  await two.defaultRoute('eth0')
  await startOn(one, 'orders')
  const { exitCode, of } = await doctorOn(two)
  expect(exitCode).toBe(0)
  expect(of('multicast')).toMatchObject([{ verdict: 'ok', subject: 'eth0' }])
  expect(of('peer')).toMatchObject([{ verdict: 'ok', text: expect.stringMatching(/up both ways.*mdns/) }])
  expect(of('interface').find(({ subject }) => subject === 'eth0')!.text).toContain(
    `others are told ${two.ipv4()}`,
  )
})

scenario('doctor - no multicast route: it is named, with the command that adds one', async () => {
  const lab = await Lab.open(onTestFinished)
  const host = await lab.host(await lab.lan())
  const [check] = (await doctorOn(host)).of('multicast')
  expect(check).toMatchObject({ verdict: 'note', text: expect.stringMatching(/no route for multicast/) })
  expect(check!.remedy).toContain('ip route add 224.0.0.0/4')
})

scenario('doctor - multicast that the system refuses: the interface, the cause and the remedy', async () => {
  const lab = await Lab.open(onTestFinished)
  const host = await lab.host(await lab.lan())
  await run('ip', host.inside('sysctl', '-qw', 'net.ipv4.igmp_max_memberships=0'))
  const { exitCode, of } = await doctorOn(host)
  expect(exitCode).toBe(1)
  const [check] = of('multicast')
  expect(check).toMatchObject({
    verdict: 'problem',
    subject: 'eth0',
    text: expect.stringMatching(/no more multicast groups/),
  })
  expect(check!.remedy).toMatch(/igmp_max_memberships.*--seed/)
})

scenario('doctor - an interface without IPv4 address: mDNS cannot be used, seeds can', async () => {
  const lab = await Lab.open(onTestFinished)
  const lan = await lab.lan({ ipv4: false, ipv6: true })
  const [one, two] = [await lab.host(lan), await lab.host(lan)]
  await startOn(one, 'orders')
  const { of } = await doctorOn(two, '--seed', `[${one.ipv6()}]:${PORT}`)
  expect(of('multicast')[0]).toMatchObject({ verdict: 'problem', text: expect.stringMatching(/IPv4/) })
  expect(of('seed')).toMatchObject([{ verdict: 'ok' }])
  expect(of('peer')).toMatchObject([{ verdict: 'ok' }])
})

scenario('doctor - multicast that the network swallows shows by how others were found', async () => {
  const lab = await Lab.open(onTestFinished)
  const lan = await lab.lan({ blocksMulticast: true })
  const [one, two] = [await lab.host(lan), await lab.host(lan)]
  await two.defaultRoute('eth0')
  await startOn(one, 'orders')
  const { exitCode, of } = await doctorOn(two, '--seed', `${one.ipv4()}:${PORT}`)
  expect(exitCode).toBe(0)
  expect(of('multicast')[0]).toMatchObject({
    verdict: 'note',
    text: expect.stringMatching(/orders was found, but not by mDNS/),
  })
})

scenario('doctor - one-way firewall on this host: who cannot dial back, at which ports', async () => {
  const lab = await Lab.open(onTestFinished)
  const lan = await lab.lan()
  const [one, two] = [await lab.host(lan), await lab.host(lan)]
  await startOn(one, 'orders')
  await two.refuseConnections()
  const { exitCode, of } = await doctorOn(two, '--port', '7500', '--seed', `${one.ipv4()}:${PORT}`)
  expect(exitCode).toBe(1)
  const [check] = of('dial-back')
  expect(check).toMatchObject({ verdict: 'problem', subject: expect.stringMatching(/^orders /) })
  expect(check!.text).toMatch(new RegExp(`one-way.*${two.ipv4()}:7500`))
  expect(check!.remedy).toMatch(/7500, 7501 and 7502.*firewall/)
})

scenario('doctor - one-way firewall on another host: the peer and the address that failed', async () => {
  const lab = await Lab.open(onTestFinished)
  const lan = await lab.lan()
  const [one, two, three] = [await lab.host(lan), await lab.host(lan), await lab.host(lan)]
  await startOn(one, 'orders')
  await two.refuseConnections()
  await startOn(two, 'hidden')
  const { exitCode, of } = await doctorOn(three, '--seed', `${one.ipv4()}:${PORT}`)
  expect(exitCode).toBe(1)
  const [check] = of('peer')
  expect(check).toMatchObject({ verdict: 'problem', subject: expect.stringMatching(/^hidden /) })
  expect(check!.text).toContain(`${two.ipv4()}:${PORT}`)
  expect(check!.remedy).toContain('firewall')
})

scenario('doctor - no network at all: an open node is told that it is alone', async () => {
  const lab = await Lab.open(onTestFinished)
  const { exitCode, of } = await doctorOn(await lab.host())
  expect(exitCode).toBe(1)
  expect(of('interface')[0]).toMatchObject({
    verdict: 'problem',
    text: expect.stringMatching(/no network but loopback/),
  })
})
