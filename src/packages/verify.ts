import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { AgentError } from '../errors.js';
import { type FetchedFile, fetchFile } from './fetch.js';
import type { FetchLimits } from './limits.js';
import { checksumUrl, shownUrl } from './location.js';

/** A list of checksums of a whole release fits; a page that says "not found" in many words does not matter. */
const MAX_CHECKSUM_BYTES = 64 * 1024;

/**
 * Holds a fetched artifact against what its repository says about it. Today that is the checksum file beside it, where there
 * is one; a signature's check belongs here too, before anything is unpacked.
 *
 * @throws AgentError DIGEST_MISMATCH naming both digests, ARTIFACT_INVALID for a checksum file without a digest for the artifact,
 *   and what fetching throws: a checksum that cannot be had now is not a checksum that does not exist
 */
export async function verifyArtifact(
  artifact: FetchedFile,
  url: URL,
  limits: FetchLimits,
  stop: AbortSignal,
): Promise<void> {
  const place = checksumUrl(url);
  const expected = await expectedDigest(place, url, `${artifact.path}.sha256`, limits, stop);
  if (expected === undefined || expected === artifact.digest) return;
  const message = `${shownUrl(url)} has the digest sha256:${artifact.digest}, but ${shownUrl(place)} says sha256:${expected}`;
  throw new AgentError('DIGEST_MISMATCH', message);
}

async function expectedDigest(
  place: URL,
  url: URL,
  path: string,
  limits: FetchLimits,
  stop: AbortSignal,
): Promise<string | undefined> {
  try {
    await fetchFile(place, path, { ...limits, maxBytes: MAX_CHECKSUM_BYTES }, stop);
  } catch (error) {
    if (error instanceof AgentError && error.code === 'ARTIFACT_NOT_FOUND') return undefined;
    throw error;
  }
  const name = decodeURIComponent(basename(url.pathname));
  const digest = digestFor(name, await readFile(path, 'utf8'));
  if (digest === undefined) {
    throw new AgentError('ARTIFACT_INVALID', `${shownUrl(place)} holds no SHA-256 digest for ${name}`);
  }
  return digest;
}

/**
 * The digest that a checksum file gives for an artifact: its line in the format of sha256sum(1), `<hex>  <name>` or
 * `<hex> *<name>`, or a file that is one bare digest.
 *
 * @returns lower-case hexadecimal, or undefined if there is none
 */
export function digestFor(name: string, checksums: string): string | undefined {
  const lines = checksums.split('\n').map((line) => line.trim());
  const listed = lines.flatMap((line) => {
    const match = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line);
    return match?.[1] !== undefined && match[2] !== undefined && basename(match[2]) === name ? [match[1]] : [];
  });
  const bare = /^[0-9a-f]{64}$/i.exec(checksums.trim());
  return (listed[0] ?? bare?.[0])?.toLowerCase();
}
