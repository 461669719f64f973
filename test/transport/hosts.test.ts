import { expect, test } from 'vitest'
import { addressesOf, isLoopback, reachableHosts } from '../../src/transport/hosts.ts'
import type { HostAddress } from '../../src/transport/transport.ts'

const address = (name: string, text: string): HostAddress => ({
  interface: name,
  address: text,
  family: text.includes(':') ? 'IPv6' : 'IPv4',
  internal: isLoopback(text),
})

const LAPTOP = [
  address('lo', '127.0.0.1'),
  address('lo', '::1'),
  address('docker0', '172.17.0.1'),
  address('wlan0', '192.168.1.7'),
  address('wlan0', '2001:db8::7'),
  address('wlan0', 'fe80::1'),
  address('usb0', '169.254.3.4'),
]

test('hosts - who listens everywhere is reached at each address but loopback, likeliest first', () => {
  expect(reachableHosts(LAPTOP, '::')).toEqual(['192.168.1.7', '2001:db8::7', '172.17.0.1', '169.254.3.4'])
})

test('hosts - who listens on IPv4 only tells no IPv6 address', () => {
  expect(reachableHosts(LAPTOP, '0.0.0.0')).toEqual(['192.168.1.7', '172.17.0.1', '169.254.3.4'])
})

test('hosts - one address listened on is the one told, and without any network it is loopback', () => {
  expect(reachableHosts(LAPTOP, '10.0.0.5')).toEqual(['10.0.0.5'])
  expect(reachableHosts(LAPTOP.slice(0, 2), '::')).toEqual(['127.0.0.1'])
})

test('hosts - not more than eight are told, however many there are', () => {
  const many = Array.from({ length: 20 }, (_, n) => address(`eth${n}`, `10.0.0.${n}`))
  expect(reachableHosts(many, '0.0.0.0')).toHaveLength(8)
})

test('hosts - an interface is named by its name or by an address of it', () => {
  expect(addressesOf(LAPTOP, 'docker0').map((each) => each.address)).toEqual(['172.17.0.1'])
  expect(addressesOf(LAPTOP, '192.168.1.7').map((each) => each.interface)).toEqual(['wlan0'])
  expect([addressesOf(LAPTOP, undefined).length, addressesOf(LAPTOP, 'eth9')]).toEqual([7, []])
})
