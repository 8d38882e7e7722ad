/** Where progress shows; on anything but a terminal it does not. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export interface Progress {
  /** @param bytes how many more are done */
  advance(bytes: number): void;
  /** Takes the line away. */
  end(): void;
}

const CLEAR_LINE = '\r\x1b[K';

/**
 * One line that says how far something is.
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
