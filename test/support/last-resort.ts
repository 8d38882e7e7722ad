/*
 * What tests and the demo create on the machine (namespaces, mounts, processes) must not outlive them, even if they end
 * by a signal or an uncaught exception.
 */

const pending = new Set<() => void>();
let armed = false;

/**
 * Runs `undo` when this process ends, unless the regular cleanup came first. It must be synchronous. If a process
 * handles a signal itself, that is left to it.
 *
 * @returns a function that cancels this
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

/** If one cleanup fails, the others must still run. */
function attempt(undo: () => void): void {
  try {
    undo();
  } catch (error) {
    process.stderr.write(`Not cleaned up: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
