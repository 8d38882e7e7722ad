import koffi from 'koffi';
import { AgentError, messageOf } from '../../../errors.js';

/*
 * libbpf and a few functions of libc, one to one and under their own names. Functions that return an int return a
 * negative errno on failure (from libbpf 1.0 on). Functions that return a pointer return null and set errno.
 */

declare const brand: unique symbol;
/** Address of an opaque structure of libbpf. */
type Pointer<Name extends string> = bigint & { readonly [brand]: Name };
export type BpfObject = Pointer<'bpf_object'>;
export type BpfProgram = Pointer<'bpf_program'>;
export type BpfMap = Pointer<'bpf_map'>;
export type Btf = Pointer<'btf'>;

/** A function that can also run on its own thread. */
export interface AsyncFunction<Args extends unknown[]> {
  (...args: Args): number;
  async(...args: [...Args, (error: unknown, result: number) => void]): void;
}

/** C prototypes as TypeScript signatures; structs and output parameters are Buffers, laid out by the callers. */
export interface Libbpf {
  libbpf_version_string(): string;
  libbpf_num_possible_cpus(): number;
  libbpf_set_print(callback: bigint | null): unknown;
  libbpf_find_vmlinux_btf_id(name: string, attachType: number): number;

  bpf_object__open_file(path: string, opts: null): BpfObject | null;
  bpf_object__load: AsyncFunction<[object: BpfObject]>;
  bpf_object__close(object: BpfObject): void;
  bpf_object__next_program(object: BpfObject, previous: BpfProgram | null): BpfProgram | null;
  bpf_object__next_map(object: BpfObject, previous: BpfMap | null): BpfMap | null;

  bpf_program__name(program: BpfProgram): string;
  bpf_program__section_name(program: BpfProgram): string;
  /** Writes two u32: `enum bpf_prog_type` and `enum bpf_attach_type`. A negative errno for an unknown section. */
  libbpf_prog_type_by_name(section: string, type: Buffer, attachType: Buffer): number;
  bpf_program__autoload(program: BpfProgram): boolean;
  bpf_program__set_type(program: BpfProgram, type: number): number;
  bpf_program__set_expected_attach_type(program: BpfProgram, type: number): number;
  bpf_program__set_autoload(program: BpfProgram, autoload: boolean): number;
  bpf_program__fd(program: BpfProgram): number;

  bpf_map__name(map: BpfMap): string;
  bpf_map__type(map: BpfMap): number;
  bpf_map__key_size(map: BpfMap): number;
  bpf_map__value_size(map: BpfMap): number;
  bpf_map__max_entries(map: BpfMap): number;
  bpf_map__fd(map: BpfMap): number;
  bpf_map__reuse_fd(map: BpfMap, fd: number): number;
  bpf_map__pin_path(map: BpfMap): string | null;
  bpf_map__set_pin_path(map: BpfMap, path: string | null): number;
  bpf_map__map_flags(map: BpfMap): number;
  /** Global data maps only: the bytes that the map will begin with; the object owns them. Writes the size, a u64. */
  bpf_map__initial_value(map: BpfMap, size: Buffer): bigint | null;
  bpf_map__set_initial_value(map: BpfMap, data: Buffer, size: number): number;
  bpf_map__btf_key_type_id(map: BpfMap): number;
  bpf_map__btf_value_type_id(map: BpfMap): number;
  bpf_object__btf(object: BpfObject): Btf | null;
  /** Writes the size, a u32. The object owns the data. */
  btf__raw_data(btf: Btf, size: Buffer): bigint | null;

  bpf_obj_get(path: string): number;
  bpf_obj_pin(fd: number, path: string): number;
  bpf_obj_get_info_by_fd(fd: number, info: Buffer, infoLength: Buffer): number;
  bpf_map_create(type: number, name: string, key: number, value: number, entries: number, opts: Buffer | null): number;
  bpf_map_update_elem: AsyncFunction<[fd: number, key: Uint8Array, value: Uint8Array, flags: number]>;
  bpf_map_lookup_elem(fd: number, key: Uint8Array, value: Buffer): number;
  /**
   * `from` and `to` mark where to continue, and may be the same; `count` is a u32: the capacity before the call, the
   * number of entries after it.
   */
  bpf_map_lookup_batch(
    fd: number,
    from: Buffer | null,
    to: Buffer,
    keys: Buffer,
    values: Buffer,
    count: Buffer,
    opts: null,
  ): number;
  bpf_map_delete_elem: AsyncFunction<[fd: number, key: Uint8Array]>;
  bpf_map_get_next_key(fd: number, key: Uint8Array | null, next: Buffer): number;

  bpf_prog_load(type: number, name: string, license: string, code: Buffer, count: number, opts: Buffer): number;
  bpf_raw_tracepoint_open(name: string | null, programFd: number): number;
  bpf_link_create(programFd: number, targetFd: number, attachType: number, opts: Buffer | null): number;
  bpf_link_update(linkFd: number, programFd: number, opts: Buffer | null): number;
  bpf_link_detach(linkFd: number): number;
  bpf_prog_get_fd_by_id(id: number): number;
  bpf_map_get_fd_by_id(id: number): number;
  bpf_link_get_fd_by_id(id: number): number;
  bpf_btf_get_fd_by_id(id: number): number;
  bpf_prog_get_next_id(start: number, next: Buffer): number;
  bpf_map_get_next_id(start: number, next: Buffer): number;
  bpf_link_get_next_id(start: number, next: Buffer): number;
  bpf_prog_query(
    targetFd: number,
    attachType: number,
    flags: number,
    attachFlags: null,
    ids: Buffer | null,
    count: Buffer,
  ): number;
  bpf_enable_stats(type: number): number;
  bpf_xdp_attach(ifindex: number, program: number, flags: number, opts: null): number;
  bpf_xdp_detach(ifindex: number, flags: number, opts: null): number;
  bpf_tc_hook_create(hook: Buffer): number;
  bpf_tc_hook_destroy(hook: Buffer): number;
  bpf_tc_attach(hook: Buffer, opts: Buffer): number;
  bpf_tc_detach(hook: Buffer, opts: Buffer): number;
  bpf_tc_query(hook: Buffer, opts: Buffer): number;
}

const LIBBPF = {
  libbpf_version_string: 'const char *libbpf_version_string()',
  libbpf_num_possible_cpus: 'int libbpf_num_possible_cpus()',
  libbpf_set_print: 'void *libbpf_set_print(void *fn)',
  libbpf_find_vmlinux_btf_id: 'int libbpf_find_vmlinux_btf_id(const char *name, int attach_type)',
  bpf_object__open_file: 'void *bpf_object__open_file(const char *path, const void *opts)',
  bpf_object__load: 'int bpf_object__load(void *obj)',
  bpf_object__close: 'void bpf_object__close(void *obj)',
  bpf_object__next_program: 'void *bpf_object__next_program(const void *obj, void *prog)',
  bpf_object__next_map: 'void *bpf_object__next_map(const void *obj, const void *map)',
  bpf_program__name: 'const char *bpf_program__name(const void *prog)',
  bpf_program__section_name: 'const char *bpf_program__section_name(const void *prog)',
  libbpf_prog_type_by_name: 'int libbpf_prog_type_by_name(const char *name, void *prog_type, void *attach_type)',
  bpf_program__autoload: 'bool bpf_program__autoload(const void *prog)',
  bpf_program__set_type: 'int bpf_program__set_type(void *prog, int type)',
  bpf_program__set_expected_attach_type: 'int bpf_program__set_expected_attach_type(void *prog, int type)',
  bpf_program__set_autoload: 'int bpf_program__set_autoload(void *prog, bool autoload)',
  bpf_program__fd: 'int bpf_program__fd(const void *prog)',
  bpf_map__name: 'const char *bpf_map__name(const void *map)',
  bpf_map__type: 'int bpf_map__type(const void *map)',
  bpf_map__key_size: 'uint32_t bpf_map__key_size(const void *map)',
  bpf_map__value_size: 'uint32_t bpf_map__value_size(const void *map)',
  bpf_map__max_entries: 'uint32_t bpf_map__max_entries(const void *map)',
  bpf_map__fd: 'int bpf_map__fd(const void *map)',
  bpf_map__reuse_fd: 'int bpf_map__reuse_fd(void *map, int fd)',
  bpf_map__pin_path: 'const char *bpf_map__pin_path(const void *map)',
  bpf_map__set_pin_path: 'int bpf_map__set_pin_path(void *map, const char *path)',
  bpf_map__map_flags: 'uint32_t bpf_map__map_flags(const void *map)',
  bpf_map__initial_value: 'void *bpf_map__initial_value(void *map, void *psize)',
  bpf_map__set_initial_value: 'int bpf_map__set_initial_value(void *map, const void *data, size_t size)',
  bpf_map__btf_key_type_id: 'uint32_t bpf_map__btf_key_type_id(const void *map)',
  bpf_map__btf_value_type_id: 'uint32_t bpf_map__btf_value_type_id(const void *map)',
  bpf_object__btf: 'void *bpf_object__btf(const void *obj)',
  btf__raw_data: 'const void *btf__raw_data(const void *btf, void *size)',
  bpf_obj_get: 'int bpf_obj_get(const char *pathname)',
  bpf_obj_pin: 'int bpf_obj_pin(int fd, const char *pathname)',
  bpf_obj_get_info_by_fd: 'int bpf_obj_get_info_by_fd(int bpf_fd, void *info, void *info_len)',
  bpf_map_create:
    'int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t max_entries, const void *opts)',
  bpf_map_update_elem: 'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
  bpf_map_lookup_elem: 'int bpf_map_lookup_elem(int fd, const void *key, void *value)',
  bpf_map_lookup_batch:
    'int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, void *count, const void *opts)',
  bpf_map_delete_elem: 'int bpf_map_delete_elem(int fd, const void *key)',
  bpf_map_get_next_key: 'int bpf_map_get_next_key(int fd, const void *key, void *next_key)',
  bpf_prog_load:
    'int bpf_prog_load(int type, const char *name, const char *license, const void *insns, size_t insn_cnt, const void *opts)',
  bpf_raw_tracepoint_open: 'int bpf_raw_tracepoint_open(const char *name, int prog_fd)',
  bpf_link_create: 'int bpf_link_create(int prog_fd, int target_fd, int attach_type, const void *opts)',
  bpf_link_update: 'int bpf_link_update(int link_fd, int new_prog_fd, const void *opts)',
  bpf_link_detach: 'int bpf_link_detach(int link_fd)',
  bpf_prog_get_fd_by_id: 'int bpf_prog_get_fd_by_id(uint32_t id)',
  bpf_map_get_fd_by_id: 'int bpf_map_get_fd_by_id(uint32_t id)',
  bpf_link_get_fd_by_id: 'int bpf_link_get_fd_by_id(uint32_t id)',
  bpf_btf_get_fd_by_id: 'int bpf_btf_get_fd_by_id(uint32_t id)',
  bpf_prog_get_next_id: 'int bpf_prog_get_next_id(uint32_t start_id, void *next_id)',
  bpf_map_get_next_id: 'int bpf_map_get_next_id(uint32_t start_id, void *next_id)',
  bpf_link_get_next_id: 'int bpf_link_get_next_id(uint32_t start_id, void *next_id)',
  bpf_prog_query:
    'int bpf_prog_query(int target_fd, int type, uint32_t query_flags, void *attach_flags, void *prog_ids, void *prog_cnt)',
  bpf_enable_stats: 'int bpf_enable_stats(int type)',
  bpf_xdp_attach: 'int bpf_xdp_attach(int ifindex, int prog_fd, uint32_t flags, const void *opts)',
  bpf_xdp_detach: 'int bpf_xdp_detach(int ifindex, uint32_t flags, const void *opts)',
  bpf_tc_hook_create: 'int bpf_tc_hook_create(void *hook)',
  bpf_tc_hook_destroy: 'int bpf_tc_hook_destroy(void *hook)',
  bpf_tc_attach: 'int bpf_tc_attach(const void *hook, void *opts)',
  bpf_tc_detach: 'int bpf_tc_detach(const void *hook, const void *opts)',
  bpf_tc_query: 'int bpf_tc_query(const void *hook, void *opts)',
} as const satisfies Record<keyof Libbpf, string>;

export interface Libc {
  if_nametoindex(name: string): number;
  socket(domain: number, type: number, protocol: number): number;
  send(socket: number, data: Buffer, length: number, flags: number): number;
  recv(socket: number, data: Buffer, length: number, flags: number): number;
  read(fd: number, data: Buffer, length: number): number;
  inotify_init1(flags: number): number;
  inotify_add_watch(fd: number, path: string, mask: number): number;
  ioctl(fd: number, request: number, argument: Buffer): number;
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  umount2(target: string, flags: number): number;
  mmap(address: null, length: number, protection: number, flags: number, fd: number, offset: number): bigint;
  munmap(address: bigint, length: number): number;
  vasprintf(text: Buffer, format: bigint, args: bigint): number;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  syscall: AsyncFunction<[number: number, a: bigint, b: bigint, c: bigint, d: bigint, e: bigint]>;
}

const LIBC = {
  if_nametoindex: 'uint32_t if_nametoindex(const char *ifname)',
  socket: 'int socket(int domain, int type, int protocol)',
  send: 'long send(int sockfd, const void *buf, size_t len, int flags)',
  recv: 'long recv(int sockfd, void *buf, size_t len, int flags)',
  read: 'long read(int fd, void *buf, size_t count)',
  inotify_init1: 'int inotify_init1(int flags)',
  inotify_add_watch: 'int inotify_add_watch(int fd, const char *pathname, uint32_t mask)',
  // Variadic in C, but the calling conventions of all platforms with BPF pass a pointer in the same way.
  ioctl: 'int ioctl(int fd, unsigned long request, void *arg)',
  mount: 'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  umount2: 'int umount2(const char *target, int flags)',
  mmap: 'void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)',
  munmap: 'int munmap(void *addr, size_t length)',
  prctl: 'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  vasprintf: 'int vasprintf(void *strp, const void *fmt, void *ap)',
  syscall: 'long syscall(long number, long a, long b, long c, long d, long e)',
} as const satisfies Record<keyof Libc, string>;

// A process loads a shared library only once, so its functions are bound only once too.
let libbpfFunctions: Libbpf | undefined;
let libcFunctions: Libc | undefined;

/** @throws AgentError LIBRARY_MISSING if libbpf 1.x is not installed */
export function libbpf(): Libbpf {
  if (libbpfFunctions === undefined) {
    libbpfFunctions = bind<Libbpf>('libbpf.so.1', LIBBPF);
    // By default libbpf writes to stderr.
    libbpfFunctions.libbpf_set_print(null);
  }
  return libbpfFunctions;
}

/** The C library that the process has loaded already. */
export function libc(): Libc {
  libcFunctions ??= bind<Libc>(null, LIBC);
  return libcFunctions;
}

function bind<Functions>(library: string | null, prototypes: Record<keyof Functions & string, string>): Functions {
  try {
    const handle = koffi.load(library);
    const bound = Object.entries<string>(prototypes).map(([name, prototype]) => [name, handle.func(prototype)]);
    return Object.fromEntries(bound) as Functions;
  } catch (cause) {
    const message =
      'libbpf.so.1 cannot be loaded; install libbpf 1.0 or newer (package libbpf1 on Debian and Ubuntu, libbpf on Fedora and RHEL)';
    throw new AgentError('LIBRARY_MISSING', message, { cause, detail: messageOf(cause) });
  }
}

/** Runs a call on its own thread, so that the event loop stays free. Resolves to the call's result. */
export function inBackground<Args extends unknown[]>(call: AsyncFunction<Args>, ...args: Args): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(...args, (error, result) => {
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    });
  });
}

/** errno of the last call, for functions of libc. */
export function lastErrno(): number {
  return koffi.errno();
}
