/**
 * What befalls batches between two hosts. A batch is what a node hands to the network at once; within one host
 * nothing befalls them, and what is subscribed to on a feed is never lost or overtaken, as on no real connection.
 */
export interface Conditions {
  /**
   * How long a batch is under way, in milliseconds: a number, or a range of which each batch draws its own. Order is
   * kept all the same. Default [0.1, 0.5].
   */
  readonly latencyMs: number | readonly [least: number, most: number]
  /** Probability that a batch is lost, and the connection goes on: worse than TCP ever does. Default 0. */
  readonly drop: number
  /** Probability that a batch is held back up to 10 ms longer, and overtaken by what follows. Default 0. */
  readonly reorder: number
  /** Probability that a batch breaks its connection, and is lost with all that is under way there. Default 0. */
  readonly reset: number
}
