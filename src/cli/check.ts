/** How one thing that was looked at stands. Whatever is a problem has a remedy. */
export type Check = {
  /** What was looked at, for programs: `registry`, `ports`, `peer`… */
  readonly check: string
  /** Which one of several: a peer, an interface, a seed. */
  readonly subject?: string
  readonly text: string
} & (
  | { readonly verdict: 'ok' | 'note'; readonly remedy?: string }
  | { readonly verdict: 'problem'; readonly remedy: string }
)

export type Verdict = Check['verdict']

export const hasProblem = (checks: readonly Check[]): boolean =>
  checks.some(({ verdict }) => verdict === 'problem')

/** What came of the question why something does not arrive. */
export interface Answer {
  readonly about: 'topic' | 'peer'
  /** Fine: it would arrive, or the peer is well. Nobody: there is none whom it concerns. */
  readonly outcome: 'fine' | 'impaired' | 'nobody'
  /** One sentence that says it all. */
  readonly conclusion: string
  /** Those whom it would reach. */
  readonly reaches: readonly string[]
  readonly checks: readonly Check[]
}
