import { invalid } from './archive.js';

/**
 * NAME_MAX of Linux file systems, and a limit for paths well below PATH_MAX, which also limits their depth. In bytes.
 */
const MAX_SEGMENT = 255;
const MAX_PATH = 1024;

/**
 * The normalized path of an archive entry, relative to the target folder: no leading `./`, no trailing slash.
 *
 * @returns '' for the folder itself (`./`, which `tar c .` writes)
 * @throws AgentError ARTIFACT_INVALID for a path that leads out of the folder, or that two readers could interpret
 *   differently
 */
export function entryPath(raw: string): string {
  const shown = JSON.stringify(raw.slice(0, 100));
  if (raw.startsWith('/')) throw invalid(`${shown} is an absolute path`);
  if (raw.includes('\\')) throw invalid(`${shown} holds a backslash`);
  if (/[\p{Cc}\p{Cs}\uFFFD]/u.test(raw)) throw invalid(`${shown} holds control characters or is not UTF-8`);
  const segments = raw.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (segments.includes('..')) throw invalid(`${shown} leads out of the package by ".."`);
  const path = segments.join('/');
  const tooLong = Buffer.byteLength(path) > MAX_PATH || segments.some((part) => Buffer.byteLength(part) > MAX_SEGMENT);
  if (tooLong) throw invalid(`${shown}… is too long: at most ${MAX_SEGMENT} bytes per name, ${MAX_PATH} in all`);
  return path;
}

/** The folders above a path, outermost first: `a/b/c` has `a` and `a/b`. */
export function foldersAbove(path: string): string[] {
  const segments = path.split('/').slice(0, -1);
  return segments.map((_, index) => segments.slice(0, index + 1).join('/'));
}
