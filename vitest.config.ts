import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // zeromq.js aborts the process when a worker thread ends with a pending receive: processes, never threads.
    pool: 'forks',
    maxWorkers: 2,
    retry: 0,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/runtime-dir.ts'],
  },
})
