import koffi from 'koffi';
import { libbpf, libc } from './ffi.js';

/*
 * What libbpf has to say, the verifier's log among it. libbpf hands out each message as a format and its arguments, to one
 * callback per process; calls that run in the background call it on the event loop's thread.
 */

const LIBBPF_WARN = 0;

let registered = false;
let collected: string[] | undefined;

/**
 * Collects what libbpf says, warnings only, until the block that holds it with `using` ends. What it says at other times is
 * dropped. One at a time: a second collector would take the first one's messages.
 */
export class Messages implements Disposable {
  readonly #parts: string[] = [];

  /** Starts listening. */
  static collect(): Messages {
    listen();
    const messages = new Messages();
    collected = messages.#parts;
    return messages;
  }

  get text(): string {
    return this.#parts.join('');
  }

  [Symbol.dispose](): void {
    if (collected === this.#parts) collected = undefined;
  }
}

/** Has libbpf talk to us instead of to stderr. Once per process; the callback lives as long as the process. */
export function listen(): void {
  if (registered) return;
  registered = true;
  const type = koffi.pointer(koffi.proto('int libbpf_print_fn(int level, void *format, void *args)'));
  libbpf().libbpf_set_print(koffi.register(receive, type));
}

function receive(level: number, format: bigint, args: bigint): number {
  if (level === LIBBPF_WARN && collected !== undefined) collected.push(formatted(format, args));
  return 0;
}

/** A va_list reaches a callback as a pointer on x86-64 and arm64 alike, so that it can be handed on untouched. */
function formatted(format: bigint, args: bigint): string {
  const pointer = Buffer.alloc(8);
  const length = libc().vasprintf(pointer, format, args);
  if (length < 0) return '';
  const text = pointer.readBigUInt64LE();
  try {
    return koffi.decode.string(text, length);
  } finally {
    koffi.free(text);
  }
}
