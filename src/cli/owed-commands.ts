import { type Command, Option } from 'commander'
import { parseCount, parseSpanMs } from './arguments.ts'
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
import type { DeadLettersOptions } from './dead-letters.ts'
import type { PullOptions } from './pull.ts'
import type { PushOptions } from './push.ts'
import type { Globals } from './run.ts'

export const addPush = (program: Command): Command => {
  const command = program
    .command('push')
    .summary('put work into a queue and wait until it is done')
    .description(
      'Puts messages into a queue, each for one worker, and ends when all are handled. What is not handled in time is ' +
        'held in --data-dir, and lost without one; the exit code is then 3.',
    )
    .argument('[queue]', 'dot-separated, e.g. resize')
    .argument('[payload]', 'JSON if it parses, else text; "-" or nothing: each line of stdin is a message')
    .addOption(headerOption())
    .addOption(countOption('push the payload so many times, or so many lines'))
    .addOption(rateOption())
    .addOption(intervalOption())
    .addOption(
      timeoutOption(
        'wait so long for the last message to be handled (default: 10s; 0 with --data-dir: hold it)',
      ),
    )
    .addOption(rawOption('the payload as it is: text, or the bytes of a file'))
    .addOption(jsonOption())
    .addOption(fileOption())
    .option('--held', 'push nothing new: hand over what --data-dir holds')
  return addAll(command, owedOptions())
    .addHelpText(
      'after',
      `
Records of --verbose (--format json, the default when piped), one a line:
  {"kind": "receipt", "id", "addressees": [{"kind", "name"}], "durability"}   it is owed from now on
  {"kind": "settled", "id", "outcomes": [{"kind", "name", "outcome", "by"?, "error"?}]}

Examples:
  $ skein push resize '{"image":"cat.png"}' -v
  $ skein push mail --data-dir ./outbox --timeout 0 < mails.ndjson
  $ skein push --held --data-dir ./outbox --timeout 1m
  $ skein push stock '{"sku":"a1","add":3}' --key a1 --ttl 1h`,
    )
    .action(
      async (queue: string | undefined, payload: string | undefined, _options: unknown, command: Command) => {
        const { push } = await import('./push.ts')
        process.exitCode = await push(queue, payload, optionsOf<PushOptions>(command))
      },
    )
}

export const addPull = (program: Command): Command =>
  program
    .command('pull')
    .summary('work off a queue')
    .description(
      'Takes messages of a queue, each of which goes to one worker, and prints them or runs a command.',
    )
    .argument('<queue>', 'dot-separated, e.g. resize')
    .option(
      '--exec <command>',
      'run this in a shell for each message; its exit code says whether it was handled',
    )
    .addOption(
      new Option('--concurrency <n>', 'so many at a time (default: 1, which keeps their order)').argParser(
        parseCount,
      ),
    )
    .addOption(
      named(
        '--handler-timeout <duration>',
        'with --exec: end a command that takes longer, which has then failed',
        'handlerTimeoutMs',
        parseSpanMs,
      ),
    )
    .addOption(countOption('end after so many messages'))
    .addOption(timeoutOption('end with code 3 after so long (default: never)'))
    .addHelpText(
      'after',
      `
The command reads the value on stdin: text and bytes as they are, everything else as JSON. If it ends with 0 the message
is handled, and what it printed is printed; if not, its code and the last line of its stderr are the reason, and the
message comes again later, here or elsewhere, until its sender gives it up as a dead letter. Its environment has
SKEIN_MESH, SKEIN_TOPIC, SKEIN_ID (of the message), SKEIN_ATTEMPT, SKEIN_REDELIVERED (1: it may have been handled
before), SKEIN_KEY, SKEIN_FROM, SKEIN_HEADER_<NAME> for each header and SKEIN_HEADERS (JSON).
Ctrl-C lets commands that run finish; what was not begun goes to other workers.

Examples:
  $ skein pull resize --exec ./resize.sh --concurrency 4
  $ skein pull mail --count 1 | jq .value`,
    )
    .action(async (queue: string, _options: unknown, command: Command) => {
      const { pull } = await import('./pull.ts')
      process.exitCode = await pull(queue, optionsOf<PullOptions>(command))
    })

export const addDeadLetters = (program: Command): Command => {
  const command = program
    .command('dead-letters')
    .summary('see what was given up, and try it again')
    .description(
      'What a node has sent at least once and given up, in its --data-dir. The node may run, or not: what it has to do ' +
        'itself it is asked for, in its --mesh.',
    )
    .addHelpText(
      'after',
      `
Records (--format json, the default when piped), one a line:
  {"id", "messageId", "topic", "addressee": {"kind", "name"}, "key"?, "headers", "value", "reason", "attempts",
   "lastError", "acceptedAt", "diedAt"}

Examples:
  $ skein dead-letters ls --data-dir ./data/orders
  $ skein dead-letters show 42 --data-dir ./data/orders
  $ skein dead-letters retry 42 --data-dir ./data/orders
  $ skein dead-letters drop --all --data-dir ./data/orders`,
    )
  command
    .command('ls')
    .summary('list them, the oldest first')
    .description('Lists dead letters, the oldest first.')
    .action(async (_options: unknown, each: Command) => {
      const { listDeadLetters } = await import('./dead-letters.ts')
      process.exitCode = await listDeadLetters(optionsOf<DeadLettersOptions>(each))
    })
  command
    .command('show')
    .summary('all about one of them')
    .description('Shows one dead letter and its value; with --format raw the value alone.')
    .argument('<id>')
    .action(async (id: string, _options: unknown, each: Command) => {
      const { showDeadLetter } = await import('./dead-letters.ts')
      process.exitCode = await showDeadLetter(id, optionsOf<DeadLettersOptions>(each))
    })
  command
    .command('retry')
    .summary('owe them again')
    .description(
      'Owes dead letters again. Where no node has the data directory open it waits until they are handled.',
    )
    .argument('[id...]')
    .option('--all', 'all that are there')
    .option('-v, --verbose', 'print the receipt of each, and what became of it')
    .addOption(timeoutOption('wait so long for the last one to be handled (default: 10s)'))
    .action(async (ids: string[], _options: unknown, each: Command) => {
      const { retryDeadLetters } = await import('./dead-letters.ts')
      process.exitCode = await retryDeadLetters(ids, optionsOf<DeadLettersOptions>(each))
    })
  command
    .command('drop')
    .summary('forget them')
    .description('Forgets dead letters.')
    .argument('[id...]')
    .option('--all', 'all that are there')
    .action(async (ids: string[], _options: unknown, each: Command) => {
      const { dropDeadLetters } = await import('./dead-letters.ts')
      process.exitCode = await dropDeadLetters(ids, optionsOf<DeadLettersOptions>(each))
    })
  return command
}

export const addJournal = (program: Command): Command => {
  const command = program
    .command('journal')
    .summary('look into a data directory')
    .description(
      'Looks into the journal of a node, in its --data-dir, and changes nothing; the node may run meanwhile.',
    )
    .addHelpText(
      'after',
      `
Records of ls, one a line:
  {"id", "topic", "key"?, "acceptedAt", "notBefore"?, "expiresAt"?, "bytes", "ageMs",
   "addressees": [{"kind", "name", "failures", "lastError"?}]}

Examples:
  $ skein journal stats --data-dir ./data/orders
  $ skein journal ls --data-dir ./data/orders | jq .topic
  $ skein journal verify --data-dir ./data/orders || echo damaged`,
    )
  command
    .command('stats')
    .summary('how much is owed, and to whom')
    .description('Says how much is owed, to whom, and what it takes on the disk.')
    .action(async (_options: unknown, each: Command) => {
      const { journalStats } = await import('./journal.ts')
      process.exitCode = await journalStats(optionsOf<Globals>(each))
    })
  command
    .command('ls')
    .summary('list what is owed')
    .description('Lists every message that is owed: to whom, since when, and how often it failed.')
    .action(async (_options: unknown, each: Command) => {
      const { journalLs } = await import('./journal.ts')
      process.exitCode = await journalLs(optionsOf<Globals>(each))
    })
  command
    .command('verify')
    .summary('check that all of it can be read')
    .description('Reads the whole journal. It ends with 1 where anything is damaged or lost, and says what.')
    .action(async (_options: unknown, each: Command) => {
      const { journalVerify } = await import('./journal.ts')
      process.exitCode = await journalVerify(optionsOf<Globals>(each))
    })
  return command
}
