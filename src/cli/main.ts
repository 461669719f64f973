#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import { parseCount, parseDurationMs, parseNames, parsePort, parseSeeds } from './arguments.ts'
import {
  addAll,
  countOption,
  fileOption,
  headerOption,
  intervalOption,
  jsonOption,
  named,
  optionsOf,
  owedOptions,
  rateOption,
  rawOption,
  timeoutOption,
} from './command-options.ts'
import type { DoctorOptions } from './doctor.ts'
import { CliError, EXIT, EXIT_HELP } from './exit.ts'
import { help } from './help.ts'
import { addDeadLetters, addJournal, addPull, addPush } from './owed-commands.ts'
import type { PeersOptions } from './peers.ts'
import type { PubOptions } from './pub.ts'
import type { Format } from './render.ts'
import type { RequestOptions } from './request.ts'
import type { RespondOptions } from './respond.ts'
import type { SubOptions } from './sub.ts'
import type { WhyOptions } from './why.ts'

// A one-shot command lives for some hundred milliseconds: each command loads what it needs when it is called.

const FORMATS: readonly Format[] = ['text', 'json', 'raw']

const version = (): string => {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}

const addPub = (program: Command): Command => {
  const command = program
    .command('pub')
    .summary('publish a message and wait until it is handled')
    .description('Publishes to every subscriber of a topic, and ends when all of them have handled it.')
    .argument('<topic>', 'dot-separated, e.g. sensors.kitchen')
    .argument('[payload]', 'JSON if it parses, else text; "-" or nothing: each line of stdin is a message')
    .addOption(headerOption())
    .addOption(countOption('publish the payload so many times, or so many lines'))
    .addOption(rateOption())
    .addOption(intervalOption())
    .addOption(
      timeoutOption(
        'wait so long for a subscriber to appear (default: not at all), and at least once to handle it (10s)',
      ),
    )
    .addOption(rawOption('the payload as it is: text, or the bytes of a file'))
    .addOption(jsonOption())
    .addOption(fileOption())
    .option('--at-least-once', 'owe it to everybody who wants it, groups that are away included')
    .addOption(
      new Option('--owed-to <group>', 'owe it to this group even if it was never seen, repeatable').argParser(
        parseNames,
      ),
    )
  return addAll(command, owedOptions())
    .addHelpText(
      'after',
      `
At least once, what is not handled in time is held in --data-dir, and lost without one; the exit code is 3. The options
from --owed-to on are for what is sent at least once.

Examples:
  $ skein pub sensors.kitchen 21.5
  $ skein pub order.created '{"id":7}' -H trace=4f2a --timeout 10s
  $ tail -f readings.ndjson | skein pub sensors.hall
  $ skein pub tick --count 100 --rate 20/s
  $ skein pub camera.front --raw --file frame.jpg
  $ skein pub order.created '{"id":7}' --at-least-once -v --data-dir ./outbox`,
    )
    .action(async (topic: string, payload: string | undefined, _options: unknown, command: Command) => {
      const { pub } = await import('./pub.ts')
      process.exitCode = await pub(topic, payload, optionsOf<PubOptions>(command))
    })
}

const addSub = (program: Command): Command =>
  program
    .command('sub')
    .summary('print what is published')
    .description('Prints every message of the topics that match, one a line.')
    .argument('<pattern...>', 'a topic; "*" is any one level, a last ">" the rest')
    .addOption(countOption('end after so many messages'))
    .addOption(timeoutOption('end with code 3 after so long (default: never)'))
    .option(
      '--group <name>',
      'of all members of the group one gets each message, and it is owed while all are away',
    )
    .option('--remember', 'with --group: it is owed messages after this command has ended, too')
    .addHelpText(
      'after',
      `
Records (--format json, the default when piped), one a line:
  {"topic", "value", "from", "id", "headers"?, "key"?, "redelivered"?, "attempt"?}
  Bytes are {"base64": "…"}. What a subscriber missed is said on stderr.

Examples:
  $ skein sub 'sensors.>'
  $ skein sub sensors.*.temp --count 10 --timeout 1m
  $ skein sub 'order.*' | jq .value.id
  $ skein sub 'audit.>' --group archive --remember >> audit.ndjson
  $ skein sub camera.front --count 1 --format raw > frame.jpg`,
    )
    .action(async (patterns: string[], _options: unknown, command: Command) => {
      const { sub } = await import('./sub.ts')
      process.exitCode = await sub(patterns, optionsOf<SubOptions>(command))
    })

const addRequest = (program: Command): Command =>
  program
    .command('request')
    .summary('ask a responder and print its answer')
    .description('Asks one responder, or with --many all of them, and prints the value that comes back.')
    .argument('<name>', 'what responders answer to, e.g. price.get')
    .argument('[payload]', 'JSON if it parses, else text; "-" or nothing: all of stdin')
    .addOption(headerOption())
    .addOption(timeoutOption('give up after so long (default: 5s, with --many 1s)'))
    .addOption(
      named(
        '--wait <duration>',
        'wait so long for a responder to appear (default: not at all)',
        'waitMs',
        parseDurationMs,
      ),
    )
    .option('--to <peer>', 'ask this peer: its name, its id or the beginning of its id')
    .option('--many', 'ask all responders and print every answer')
    .addOption(new Option('--max <n>', 'with --many: end after so many answers').argParser(parseCount))
    .addOption(rawOption('the payload as it is: text, or the bytes of a file or of stdin'))
    .addOption(jsonOption())
    .addOption(fileOption())
    .addHelpText(
      'after',
      `
Examples:
  $ skein request price.get '{"sku":"a1"}'
  $ skein request thumbnail.make --raw --file photo.jpg --format raw > small.jpg
  $ skein request inventory.count --many --timeout 300ms
  $ skein request db.backup --to db-2 --timeout 10m`,
    )
    .action(async (name: string, payload: string | undefined, _options: unknown, command: Command) => {
      const { request } = await import('./request.ts')
      process.exitCode = await request(name, payload, optionsOf<RequestOptions>(command))
    })

const addRespond = (program: Command): Command =>
  program
    .command('respond')
    .summary('answer requests')
    .description('Answers requests with their own payload, or with what a command prints.')
    .argument('<name>', 'what to answer to, e.g. price.get')
    .option('--echo', 'answer with the payload of the request')
    .option('--exec <command>', 'run this in a shell for each request, and answer with what it prints')
    .addOption(
      new Option(
        '--concurrency <n>',
        'so many requests at a time (default with --exec: one for each CPU)',
      ).argParser(parseCount),
    )
    .addOption(countOption('end after so many requests'))
    .addOption(timeoutOption('end with code 3 after so long (default: never)'))
    .addOption(rawOption('answer with the bytes that the command printed, as they are'))
    .addHelpText(
      'after',
      `
The command reads the payload on stdin: text and bytes as they are, everything else as JSON. What it prints is
the answer: JSON if it parses, else text, else bytes. If it ends with another code than 0, the last line of its
stderr is the error that the asker gets. It is ended when the asker gives up. Its environment has SKEIN_MESH,
SKEIN_TOPIC, SKEIN_FROM (the id of the asker), SKEIN_HEADER_<NAME> for each header and SKEIN_HEADERS (JSON).

Examples:
  $ skein respond ping --echo
  $ skein respond price.get --exec ./price.sh --concurrency 4
  $ skein respond json.pretty --exec 'jq .' --raw`,
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      const { respond } = await import('./respond.ts')
      process.exitCode = await respond(name, optionsOf<RespondOptions>(command))
    })

const addPeers = (program: Command): Command =>
  program
    .command('peers')
    .summary('list the other nodes of the mesh')
    .description('Lists the other nodes of the mesh, how each was found and whether it is up.')
    .option('--watch', 'go on, and print who comes, goes or changes')
    .option('-v, --verbose', 'also the boot of each, and why it is not up')
    .addOption(
      new Option('--wait <n>', 'wait until so many are up; code 4 if they do not come').argParser(parseCount),
    )
    .addOption(timeoutOption('how long to wait (default: 10s) or to watch (default: for ever)'))
    .addHelpText(
      'after',
      `
Records (--format json, the default when piped), one a line:
  {"kind", "id", "name", "boot", "state", "foundBy", "endpoints", "reason"?, "code"?}
  Of kind "node"; of kind "seed" is a --seed that has led to no node yet, with its address as name and no id.

Examples:
  $ skein peers -v
  $ skein peers --watch
  $ skein peers --wait 3 --timeout 30s && ./start-work.sh`,
    )
    .action(async (_options: unknown, command: Command) => {
      const { peers } = await import('./peers.ts')
      process.exitCode = await peers(optionsOf<PeersOptions>(command))
    })

const addDoctor = (program: Command): Command =>
  program
    .command('doctor')
    .summary('check this host and the mesh, and say what helps')
    .description(
      'Joins the mesh as any node would, with the same options, and checks the registry, ports, interfaces, multicast, ' +
        'seeds, and for each peer the way there and back, its mesh, version, clock and event loop.',
    )
    .option(
      '--json',
      'one JSON object: {"ok", "node", "checks": [{"check", "subject"?, "verdict", "text", "remedy"?}]}',
    )
    .addOption(
      timeoutOption(
        'most that is waited for those who do not answer (default: 2s for a seed, 6s for a node)',
      ),
    )
    .addHelpText(
      'after',
      `
It ends with 0 where there is no problem, with 1 where there is one.

Examples:
  $ skein doctor
  $ skein doctor --open --port 7400
  $ skein doctor --open --seed 10.0.0.5:7400 --json`,
    )
    .action(async (_options: unknown, command: Command) => {
      const { doctor } = await import('./doctor.ts')
      process.exitCode = await doctor(optionsOf<DoctorOptions>(command))
    })

const addWhy = (program: Command): Command =>
  program
    .command('why')
    .summary('say why something does not arrive')
    .description(
      'Says who would get what is published, pushed or asked under a name, and if nobody would, why; or how a peer is doing.',
    )
    .argument(
      '<subject>',
      'a topic, a queue, the name of a responder, or a peer: its name, its id or the beginning of it',
    )
    .option('--json', 'one JSON object: {"ok", "subject", "about", "conclusion", "reaches", "checks"}')
    .addOption(
      timeoutOption(
        'most that is waited for those who do not answer (default: 2s for a seed, 6s for a node)',
      ),
    )
    .addHelpText(
      'after',
      `
Where nobody of the mesh wants it, the other meshes of this host are asked as well.
It ends with 0 if it would arrive, with 5 if there is nobody, with 1 if something else is wrong.

Examples:
  $ skein why sensors.kitchen.temp
  $ skein why price.get
  $ skein why resize
  $ skein why billing --json`,
    )
    .action(async (subject: string, _options: unknown, command: Command) => {
      const { why } = await import('./why.ts')
      process.exitCode = await why(subject, optionsOf<WhyOptions>(command))
    })

const addDemo = (program: Command): Command =>
  program
    .command('demo')
    .summary('see nodes find each other, talk, be killed, and lose nothing')
    .description(
      'Starts nodes as processes of their own, in a mesh of their own on this host, kills some of them, and shows what a ' +
        'mesh does; ends by itself. It takes no options.',
    )
    .action(async () => {
      const { demo } = await import('./demo.ts')
      process.exitCode = await demo()
    })

const addDemoRole = (program: Command): Command =>
  program
    .command('demo-role', { hidden: true })
    .argument('<role>')
    .argument('<mesh>')
    .argument('<directory>')
    .action(async (role: string, mesh: string, directory: string) => {
      const { demoRole } = await import('./demo-role.ts')
      await demoRole(role, mesh, directory)
    })

const createProgram = (): Command => {
  const program = new Command('skein')
    .description('Peer-to-peer messaging with no broker: nodes of a mesh find each other and talk directly.')
    .version(version(), '--version')
    .addOption(new Option('--mesh <name>', 'the mesh to join (default: "default")').env('SKEIN_MESH'))
    .addOption(new Option('--name <name>', 'how this node is called').env('SKEIN_NAME'))
    .addOption(new Option('--open', 'reach beyond this host, and be reached by anybody (env: SKEIN_OPEN)'))
    .addOption(
      new Option(
        '--seed <host:port>',
        'ask there for other nodes, repeatable (env: SKEIN_SEED, with commas)',
      ).argParser(parseSeeds),
    )
    .addOption(
      new Option('--mdns', 'look for nodes by multicast; with --open it is done anyway (env: SKEIN_MDNS=1)'),
    )
    .addOption(new Option('--no-mdns', 'do not look for nodes by multicast (env: SKEIN_MDNS=0)'))
    .addOption(new Option('--no-registry', 'do not look for nodes of this host (env: SKEIN_REGISTRY=0)'))
    .addOption(
      new Option('--interface <name>', 'listen and multicast on this interface only').env('SKEIN_INTERFACE'),
    )
    .addOption(new Option('--bind <address>', 'listen on this address').env('SKEIN_BIND'))
    .addOption(
      new Option('--advertise <host>', 'the address or name that others are told to dial').env(
        'SKEIN_ADVERTISE',
      ),
    )
    .addOption(
      new Option('--port <port>', 'listen on this port and the two after it')
        .env('SKEIN_PORT')
        .argParser(parsePort),
    )
    .addOption(
      new Option('--data-dir <directory>', 'keep what is sent at least once there, until it is handled').env(
        'SKEIN_DATA_DIR',
      ),
    )
    .addOption(
      new Option('--format <format>', 'text on a terminal, json when piped')
        .env('SKEIN_FORMAT')
        .choices(FORMATS),
    )
    .addOption(new Option('-q, --quiet', 'no notes on stderr, only errors'))
    .configureHelp(help)
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'skein: ')),
    })
    .showHelpAfterError('(--help says more)')
    .exitOverride()
    .addHelpText('after', `\n${EXIT_HELP}`)
  for (const add of [
    addPub,
    addSub,
    addPush,
    addPull,
    addRequest,
    addRespond,
    addPeers,
    addDoctor,
    addWhy,
    addDeadLetters,
    addJournal,
    addDemo,
    addDemoRole,
  ])
    add(program).copyInheritedSettings(program)
  return program
}

// Whoever reads the help may have read enough (`| head`); commands see to their own output.
process.stdout.on('error', () => {})
try {
  await createProgram().parseAsync()
} catch (error) {
  if (error instanceof CliError) {
    process.stderr.write(`skein: ${error.message}\n`)
    process.exitCode = error.exitCode
  } else if (error instanceof CommanderError) {
    // It has said why.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
  } else {
    throw error
  }
}
