import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

// Every test file gets a registry of its own, so that files running side by side never meet.
const directory = mkdtempSync(join(tmpdir(), 'skein-test-'))
process.env.SKEIN_RUNTIME_DIR = directory
afterAll(() => rmSync(directory, { recursive: true, force: true }))
