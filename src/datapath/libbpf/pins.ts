import {
  type Dirent,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { AgentError } from '../../errors.js';
import { check } from './errno.js';
import { libbpf } from './ffi.js';

/*
 * bpffs as a file system: directories, pins, further names. Everything is synchronous: it is memory, and a call costs a few
 * microseconds.
 */

/** Pins an object under a name that is free, in a directory that exists. */
export function pin(fd: number, path: string): void {
  check(libbpf().bpf_obj_pin(fd, path), `Cannot pin at ${path}`);
}

/** Pins an object of ours under a name of ours, whatever somebody else has put there. */
export function pinInPlace(fd: number, path: string): void {
  fileOperation(`Cannot clear ${path}`, () => rmSync(path, { recursive: true, force: true }));
  pin(fd, path);
}

/** Makes an empty directory of ours under a name of ours, in one that exists, whatever somebody else has put there. */
export function makeInPlace(path: string): void {
  fileOperation(`Cannot make the directory ${path}`, () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  });
}

/** Makes a directory that must not exist yet, and those above it below `root` as needed. */
export function makeNewDir(path: string, root: string): void {
  makeParents(path);
  try {
    fileOperation(`Cannot make the directory ${path}`, () => mkdirSync(path));
  } catch (error) {
    removeEmptyParents(path, root);
    throw error;
  }
}

export function makeParents(path: string): void {
  fileOperation(`Cannot make the directory ${dirname(path)}`, () => mkdirSync(dirname(path), { recursive: true }));
}

/**
 * Makes `path` a further name of what is pinned at `pin`. Whoever opens `path` meanwhile finds the old object or the new one.
 */
export function publish(pinned: string, path: string): void {
  makeParents(path);
  fileOperation(`Cannot publish ${pinned} as ${path}`, () => {
    // rename(2) does nothing when both names are the same file already, and would leave the temporary one.
    if (inodeOf(path) === lstatSync(pinned).ino) return;
    // A percent sign keeps it apart from every map's name. One that a crash left is replaced.
    const temporary = `${path}%new`;
    rmSync(temporary, { force: true });
    linkSync(pinned, temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
}

/** Gives a pin another name, atomically replacing what had that name. */
export function move(from: string, to: string, root: string): void {
  if (from === to) return;
  makeParents(to);
  fileOperation(`Cannot move the pin ${from} to ${to}`, () => renameSync(from, to));
  removeEmptyParents(from, root);
}

/** Takes a name away, and the directories below `root` that this leaves empty; a name that is not there is fine. */
export function unpin(path: string, root: string): void {
  fileOperation(`Cannot unpin ${path}`, () => ignoring(['ENOENT', 'ENOTDIR'], () => unlinkSync(path)));
  removeEmptyParents(path, root);
}

/**
 * Takes a whole directory away, and the ones above it below `root` that this leaves empty. What cannot be removed does not keep the rest
 * from being removed: the pin that stays may be nothing to the objects behind the others.
 *
 * @throws AgentError KERNEL for the first thing that could not be removed
 */
export function removeTree(dir: string, root: string): void {
  const failures: unknown[] = [];
  const remove = (operation: () => void): void => {
    try {
      ignoring(['ENOENT', 'ENOTDIR'], operation);
    } catch (error) {
      failures.push(error);
    }
  };
  const removeDir = (path: string): void => {
    for (const entry of entriesOf(path)) {
      const inner = `${path}/${entry.name}`;
      if (entry.isDirectory()) removeDir(inner);
      else remove(() => unlinkSync(inner));
    }
    remove(() => rmdirSync(path));
  };
  // What a link leads to is somebody else's.
  if (isFolder(dir)) removeDir(dir);
  else remove(() => unlinkSync(dir));
  removeEmptyParents(dir, root);
  fileOperation(`Cannot remove ${dir}`, () => {
    if (failures.length > 0) throw failures[0];
  });
}

/** Takes the directories above a path away that are empty, up to `root`, which stays. */
export function removeEmptyParents(path: string, root: string): void {
  for (let dir = dirname(path); dir.startsWith(`${root}/`); dir = dirname(dir)) {
    const removed = ignoring(['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY', 'ENOTDIR'], () => rmdirSync(dir));
    if (!removed && inodeOf(dir) !== undefined) return;
  }
}

/** Everything exactly `depth` levels below a directory, as paths relative to it; nothing if the directory is not there. */
export function* walk(dir: string, depth: number): Generator<string> {
  for (const { path } of entriesAt(dir, depth)) yield path;
}

/** The same, directories alone. */
export function* foldersBelow(dir: string, depth: number): Generator<string> {
  for (const { path, entry } of entriesAt(dir, depth)) {
    if (entry.isDirectory()) yield path;
  }
}

/** The same without directories and symbolic links: a bpffs that others use too may have them anywhere. */
export function* pinsBelow(dir: string, depth: number): Generator<string> {
  for (const { path, entry } of entriesAt(dir, depth)) {
    if (entry.isFile()) yield path;
  }
}

/** Every file below a directory, at whatever depth, with its path. */
export function* filesBelow(dir: string): Generator<string> {
  for (const entry of entriesOf(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

function* entriesAt(dir: string, depth: number, base = ''): Generator<{ path: string; entry: Dirent }> {
  for (const entry of entriesOf(`${dir}${base === '' ? '' : '/'}${base}`)) {
    const path = base === '' ? entry.name : `${base}/${entry.name}`;
    if (depth === 1) yield { path, entry };
    else if (entry.isDirectory()) yield* entriesAt(dir, depth - 1, path);
  }
}

function entriesOf(dir: string) {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, ['ENOENT', 'ENOTDIR'])) return [];
    throw new AgentError('KERNEL', `Cannot list ${dir}: ${(error as Error).message}`, { cause: error });
  }
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function inodeOf(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

/** @throws AgentError KERNEL for what failed */
export function fileOperation(failed: string, operation: () => void): void {
  try {
    operation();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AgentError('KERNEL', `${failed} (${why})`, { cause, detail: why });
  }
}

/** @returns false if the operation failed in one of these ways */
function ignoring(codes: readonly string[], operation: () => void): boolean {
  try {
    operation();
    return true;
  } catch (error) {
    if (isErrno(error, codes)) return false;
    throw error;
  }
}

function isErrno(error: unknown, codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
