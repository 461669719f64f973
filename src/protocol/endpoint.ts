const ENDPOINT =
  /^tcp:\/\/(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9_-][A-Za-z0-9._-]{0,252})):([1-9][0-9]{0,4})$/

/** The host and port of `tcp://host:port`, or undefined: no wildcard, no `source;target` pair, a port that can be dialled. */
export const parseEndpoint = (text: string): { readonly host: string; readonly port: number } | undefined => {
  const [, ipv6, host = ipv6, port] = ENDPOINT.exec(text) ?? []
  return host === undefined || Number(port) > 65_535 ? undefined : { host, port: Number(port) }
}

export const isEndpoint = (text: string): boolean => parseEndpoint(text) !== undefined
