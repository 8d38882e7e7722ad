/*
 * What tests and the demo put into the machine (namespaces, mounts, processes) must not outlive them, also when they end by a signal
 * or by an exception that nobody catches.
 */

const pending = new Set<() => void>();
let armed = false;

/**
 * Has `undo` run when this process ends, unless the orderly way was taken before. It must be synchronous. A process that handles a
 * signal itself is left to do so, and ends as it likes.
 *
 * @returns takes it back
 */
export function atExit(undo: () => void): () => void {
  if (!armed) arm();
  pending.add(undo);
  return () => pending.delete(undo);
}

function arm(): void {
  armed = true;
  process.on('exit', () => {
    for (const undo of [...pending].toReversed()) attempt(undo);
  });
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) process.exit(128 + number);
    });
  }
}

/** The others still have to be undone when one cannot be. */
function attempt(undo: () => void): void {
  try {
    undo();
  } catch (error) {
    process.stderr.write(`Not cleaned up: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
