/** The stream to show progress on. Progress is shown only on a terminal. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export interface Progress {
  /** @param bytes number of bytes done since the last call */
  advance(bytes: number): void;
  /** Clears the line. */
  end(): void;
}

const CLEAR_LINE = '\r\x1b[K';

/**
 * Shows progress in per cent on one line.
 *
 * @param total in bytes
 */
export function progressLine(what: string, total: number, stream: ProgressStream): Progress {
  let done = 0;
  let shown = -1;
  const show = (text: string) => {
    if (stream.isTTY === true) stream.write(text);
  };
  return {
    advance(bytes) {
      done += bytes;
      const percent = total === 0 ? 100 : Math.min(100, Math.floor((done / total) * 100));
      if (percent !== shown) show(`${CLEAR_LINE}${what} ${String(percent).padStart(3)} %`);
      shown = percent;
    },
    end: () => show(CLEAR_LINE),
  };
}
