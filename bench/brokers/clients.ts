/**
 * The client libraries of brokers, which are not installed with the rest: `npm install --no-save nats ioredis`. Their types
 * are not there either, hence `any`.
 */
// biome-ignore lint/suspicious/noExplicitAny: see above
export const connect = async (name: 'nats' | 'ioredis'): Promise<any> => await import(name as string)

export const isInstalled = async (name: 'nats' | 'ioredis'): Promise<boolean> =>
  connect(name).then(
    () => true,
    () => false,
  )
