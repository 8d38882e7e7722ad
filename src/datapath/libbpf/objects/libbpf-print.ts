import koffi from 'koffi';
import { libbpf, libc } from '../abi/ffi.js';

/*
 * libbpf's messages, including the verifier's log. libbpf passes each message as a format and its arguments to one
 * callback per process. Calls in the background invoke it on the event loop's thread.
 */

const LIBBPF_WARN = 0;

/**
 * The callback to which libbpf passes its messages instead of stderr, and its present listener. A process has one
 * callback for its whole life (libbpf_set_print sets a global variable of the library), so there is only one instance.
 */
class PrintCallback {
  #isRegistered = false;
  #listener: string[] | undefined;

  /** From now on, appends warnings to this array, and no longer to any other. */
  listen(parts: string[]): void {
    this.#register();
    this.#listener = parts;
  }

  /** Drops further messages, unless another array has replaced this one. */
  leave(parts: string[]): void {
    if (this.#listener === parts) this.#listener = undefined;
  }

  #register(): void {
    if (this.#isRegistered) return;
    this.#isRegistered = true;
    const type = koffi.pointer(koffi.proto('int libbpf_print_fn(int level, void *format, void *args)'));
    const receive = (level: number, format: bigint, args: bigint) => {
      if (level === LIBBPF_WARN) this.#listener?.push(formatted(format, args));
      return 0;
    };
    libbpf().libbpf_set_print(koffi.register(receive, type));
  }
}

const printCallback = new PrintCallback();

/**
 * Collects libbpf's messages, warnings only, until the end of the block that declares it with `using`. Messages at
 * other times are dropped. Only one at a time: a second collector would take the first one's messages.
 */
export class Messages implements Disposable {
  readonly #parts: string[] = [];

  /** Starts listening. */
  static collect(): Messages {
    const messages = new Messages();
    printCallback.listen(messages.#parts);
    return messages;
  }

  get text(): string {
    return this.#parts.join('');
  }

  [Symbol.dispose](): void {
    printCallback.leave(this.#parts);
  }
}

/** On both x86-64 and arm64 a va_list reaches a callback as a pointer, so it can be passed on unchanged. */
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
